-- Skips a row that another process has locked: that lease expires.
UPDATE release_ledger.generations g SET owner = NULL, owned_until = NULL
FROM (
    SELECT tenant, version, number FROM release_ledger.generations
    WHERE owner = $4 AND tenant = $1 AND version = $2 AND number = $3
    FOR UPDATE SKIP LOCKED
) AS mine
WHERE (g.tenant, g.version, g.number) = (mine.tenant, mine.version, mine.number)
