-- An owner counts while its lease lasts and its registry connection exists: a killed process loses the connection at
-- once, and a paused one does not renew the lease. Each process id has at most one session. The sessions are joined,
-- because a sub-query reads all of them for each generation.
SELECT tenant, number, g.state, owner = $3 AS mine,
    coalesce(owned_until >= clock_timestamp() AND a.pid IS NOT NULL, false) AS owned,
    coalesce(retired_at < clock_timestamp() - make_interval(secs => $4), false) AS expired
FROM release_ledger.generations g
LEFT JOIN pg_stat_activity a ON a.pid = owner_pid AND coalesce(a.backend_start, owner_began) = owner_began
WHERE version = $1 AND tenant = ANY($2) ORDER BY tenant, number
