-- Stores the first position of a follower, while the generation that it reads is live.
INSERT INTO release_ledger.followers (tenant, name, position)
SELECT tenant, $2, $3 FROM release_ledger.generations
WHERE tenant = $1 AND version = $4 AND number = $5 AND state = 'live'
FOR SHARE
ON CONFLICT (tenant, name) DO NOTHING
