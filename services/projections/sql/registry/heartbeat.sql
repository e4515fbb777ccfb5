INSERT INTO release_ledger.members (member, version, folds, tenants, pid, began, seen_at)
SELECT $1, $2, $3, $4, pid, backend_start, clock_timestamp() FROM pg_stat_activity
WHERE pid = pg_backend_pid()
ON CONFLICT (member) DO UPDATE SET tenants = excluded.tenants, pid = excluded.pid, began = excluded.began,
    seen_at = excluded.seen_at
