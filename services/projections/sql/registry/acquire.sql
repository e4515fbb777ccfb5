-- Skips a row that another process has locked, as in a switch: waiting for it would let the leases on all other
-- tenants expire.
WITH free AS (
    SELECT tenant, version, number FROM release_ledger.generations
    WHERE tenant = $1 AND version = $2 AND number = $3 AND state = $6
        AND (owner IS NULL OR owner = $4 OR owned_until < clock_timestamp() OR NOT EXISTS (
            SELECT FROM pg_stat_activity o
            WHERE o.pid = owner_pid AND coalesce(o.backend_start, owner_began) = owner_began
        ))
    FOR UPDATE SKIP LOCKED
)
UPDATE release_ledger.generations g SET owner = $4, owner_pid = a.pid, owner_began = a.backend_start,
    owned_until = clock_timestamp() + make_interval(secs => $5)
FROM free f, pg_stat_activity a
WHERE a.pid = pg_backend_pid()
    AND (g.tenant, g.version, g.number) = (f.tenant, f.version, f.number)
