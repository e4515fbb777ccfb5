-- Selects the leaf hashes of the entries after one position, up to another; null for a gap.
SELECT position, leaf_hash FROM (
    SELECT position, leaf_hash FROM events WHERE position > $1 AND position <= $2
    UNION ALL
    SELECT position, leaf_hash FROM foreign_entries WHERE position > $1 AND position <= $2
    UNION ALL
    SELECT position, NULL FROM gaps WHERE position > $1 AND position <= $2
) AS leaves
ORDER BY position
