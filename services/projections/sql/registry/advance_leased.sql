-- Advances a follower as registry/advance_follower does, and only while the lease is held.
WITH held AS (
    SELECT FROM release_ledger.leases
    WHERE tenant = $1 AND name = $7 AND holder = $8 AND epoch = $9 AND expires_at >= clock_timestamp()
    FOR SHARE
), live AS (
    SELECT FROM release_ledger.generations
    WHERE tenant = $1 AND version = $5 AND number = $6 AND state = 'live'
    FOR SHARE
)
UPDATE release_ledger.followers SET position = $4
WHERE tenant = $1 AND name = $2 AND position = $3 AND EXISTS (SELECT FROM held) AND EXISTS (SELECT FROM live)
