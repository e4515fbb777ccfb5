-- An owner counts while its lease lasts and its registry connection exists: a killed process loses the connection at
-- once, and a paused one does not renew the lease.
SELECT tenant, number, state, owner = $3 AS mine,
    coalesce(owned_until >= clock_timestamp() AND EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE a.pid = owner_pid AND coalesce(a.backend_start, owner_began) = owner_began
    ), false) AS owned,
    coalesce(retired_at < clock_timestamp() - make_interval(secs => $4), false) AS expired
FROM release_ledger.generations WHERE version = $1 AND tenant = ANY($2) ORDER BY tenant, number
