-- Selects the latest end of each check of an environment while it ran a composition, by the recorded order of changes
-- and outside reorderings. `$5` is the empty composition, which the environment ran before its first change.
SELECT DISTINCT ON (n.composition, v.check_name) n.composition, v.check_name, v.passed, v.occurred_at, v.position
FROM (
    SELECT DISTINCT number, occurred_at, composition FROM live_changes
    WHERE environment_id = $3 AND composition = ANY($4) AND position <= $2
    UNION ALL
    SELECT 0, '-infinity'::timestamptz, $5::bytea WHERE $5 = ANY($4)
) n
LEFT JOIN LATERAL (
    SELECT x.occurred_at FROM live_changes x
    WHERE x.environment_id = $3 AND x.number = n.number + 1 AND x.position <= $2 LIMIT 1
) e ON true
JOIN verdicts v ON v.subject = $1 AND v.occurred_at >= n.occurred_at
    AND (e.occurred_at IS NULL OR v.occurred_at < e.occurred_at)
-- include fragments/check_start.sql
WHERE (s.occurred_at IS NULL OR s.occurred_at >= n.occurred_at OR s.occurred_at >= (
        -- include fragments/composition_since.sql
    )) AND v.position <= $2 AND v.counts
    AND (v.corrected_position IS NULL OR v.corrected_position > $2)
    AND NOT EXISTS (
        SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
            AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
    )
ORDER BY n.composition, v.check_name, v.occurred_at DESC, v.position DESC
