SELECT position, attempted_at, duration_ms, status, error FROM release_ledger.webhook_attempts
WHERE tenant = $1 AND follower = $2 ORDER BY number DESC LIMIT $3
