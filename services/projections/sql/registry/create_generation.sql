-- Creates a generation only if its number is the highest and no other one is being built.
INSERT INTO release_ledger.generations (tenant, version, number, state)
SELECT $1, $2, $3, 'building'
WHERE $3 > (SELECT coalesce(max(number), 0) FROM release_ledger.generations WHERE tenant = $1 AND version = $2)
ON CONFLICT DO NOTHING
