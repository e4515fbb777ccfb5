-- Never deletes the live generation of the worker's own schema version, nor one that another process builds.
DELETE FROM release_ledger.generations
WHERE tenant = $1 AND version = $2 AND number = $3
    AND (state = 'retired' OR version < $4 OR state = 'building' AND owner = $5)
