-- Selects within a range of positions, so that Postgres reads no row twice, independent of its table statistics.
SELECT position, bytes FROM events
WHERE position > $1 AND position <= $2 AND (environment = ANY($3) OR environment IS NULL)
    AND hashtext(kind) = ANY(ARRAY(SELECT hashtext(name) FROM unnest($4::text[]) n (name)))
    AND kind = ANY($4) AND repeats IS NULL
ORDER BY position
