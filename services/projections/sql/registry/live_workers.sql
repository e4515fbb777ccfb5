SELECT member, tenants FROM release_ledger.members m
WHERE version = $1 AND folds AND seen_at > clock_timestamp() - make_interval(secs => $2)
    AND EXISTS (SELECT FROM pg_stat_activity a
        WHERE a.pid = m.pid AND coalesce(a.backend_start, m.began) = m.began)
