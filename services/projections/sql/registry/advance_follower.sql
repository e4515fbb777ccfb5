-- Advances a follower only from the position that it read, and only while the generation that it read is live: another
-- one may belong to another history with other positions. Waits for a switch in progress.
INSERT INTO release_ledger.followers AS f (tenant, name, position)
SELECT tenant, $2, $4 FROM release_ledger.generations
WHERE tenant = $1 AND version = $5 AND number = $6 AND state = 'live'
FOR SHARE
ON CONFLICT (tenant, name) DO UPDATE SET position = excluded.position WHERE f.position = $3
