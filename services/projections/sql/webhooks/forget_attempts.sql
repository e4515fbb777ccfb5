DELETE FROM release_ledger.webhook_attempts WHERE tenant = $1 AND follower = $2
