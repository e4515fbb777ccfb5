UPDATE release_ledger.leases SET expires_at = '-infinity'
WHERE tenant = $1 AND name = $2 AND holder = $3 AND epoch = $4
