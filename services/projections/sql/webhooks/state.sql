SELECT failures, failing_since, next_attempt_at FROM release_ledger.webhook_deliveries
WHERE tenant = $1 AND follower = $2 AND settings_position = $3
