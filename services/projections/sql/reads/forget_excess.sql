-- Deletes at most $2 of the oldest reads beyond the newest $1. Exports stay until their time is over: many reads of pages
-- must not push them out.
DELETE FROM release_ledger.reads
WHERE id IN (
    SELECT id FROM release_ledger.reads WHERE NOT is_export ORDER BY id
    LIMIT (SELECT least($2::bigint, greatest(count(*) - $1::bigint, 0)) FROM release_ledger.reads WHERE NOT is_export)
)
