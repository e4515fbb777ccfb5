-- Forgets at most $2 of the reads that began before $1.
DELETE FROM release_ledger.reads
WHERE id IN (SELECT id FROM release_ledger.reads WHERE began_at < $1 ORDER BY began_at LIMIT $2)
