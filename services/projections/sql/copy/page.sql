-- Each part uses its own index for the order, and has the limit, so that Postgres reads no more rows than needed.
SELECT position, recorded_at, leaf_hash, bytes FROM (
    (SELECT position, recorded_at, leaf_hash, bytes FROM events WHERE position > $1 AND position <= $2
        ORDER BY position LIMIT $3)
    UNION ALL
    (SELECT position, recorded_at, leaf_hash, bytes FROM foreign_entries WHERE position > $1 AND position <= $2
        ORDER BY position LIMIT $3)
    UNION ALL
    (SELECT position, NULL, NULL, NULL FROM gaps WHERE position > $1 AND position <= $2
        ORDER BY position LIMIT $3)
) AS copy
ORDER BY position LIMIT $3
