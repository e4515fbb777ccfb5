-- Forgets at most $2 of the oldest reads beyond the newest $1.
DELETE FROM release_ledger.reads
WHERE id IN (
    SELECT id FROM release_ledger.reads ORDER BY id
    LIMIT (SELECT least($2::bigint, greatest(count(*) - $1::bigint, 0)) FROM release_ledger.reads)
)
