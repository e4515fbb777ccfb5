-- Forgets the followers of removed subscriptions, only while the lease is held: another holder may know further ones.
DELETE FROM release_ledger.followers
WHERE tenant = $1 AND name LIKE 'webhook/%' AND name <> ALL($2) AND EXISTS (
    SELECT FROM release_ledger.leases
    WHERE tenant = $1 AND name = $3 AND holder = $4 AND epoch = $5 AND expires_at >= clock_timestamp()
)
