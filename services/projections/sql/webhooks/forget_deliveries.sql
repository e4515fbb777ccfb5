DELETE FROM release_ledger.webhook_deliveries WHERE tenant = $1 AND follower = $2
