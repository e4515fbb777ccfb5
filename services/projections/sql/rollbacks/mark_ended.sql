UPDATE rollbacks SET phase = $2, ended = $3 WHERE rollback_id = $1 AND ended IS NULL
