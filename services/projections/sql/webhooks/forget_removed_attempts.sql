-- Forgets the followers of removed subscriptions, only while the lease is held: another holder may know further ones.
DELETE FROM release_ledger.webhook_attempts
WHERE tenant = $1 AND follower LIKE 'webhook/%' AND follower <> ALL($2) AND EXISTS (
    SELECT FROM release_ledger.leases
    WHERE tenant = $1 AND name = $3 AND holder = $4 AND epoch = $5 AND expires_at >= clock_timestamp()
)
