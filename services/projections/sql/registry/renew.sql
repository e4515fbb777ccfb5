-- Renews only the leases that are named; the others expire.
WITH named AS (
    SELECT g.tenant, g.version, g.number FROM release_ledger.generations g
    JOIN unnest($3::text[], $4::integer[]) AS n (tenant, number) USING (tenant, number)
    WHERE g.owner = $1 AND g.version = $2
    FOR UPDATE OF g SKIP LOCKED
), renewed AS (
    UPDATE release_ledger.generations g SET owner_pid = a.pid, owner_began = a.backend_start,
        owned_until = clock_timestamp() + make_interval(secs => $5)
    FROM named n, pg_stat_activity a
    WHERE a.pid = pg_backend_pid()
        AND (g.tenant, g.version, g.number) = (n.tenant, n.version, n.number)
)
SELECT tenant, number FROM release_ledger.generations WHERE owner = $1 AND version = $2
