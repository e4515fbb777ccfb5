-- Selects the ends of checks of an environment within spans, each with the composition recorded for that time, outside
-- reorderings. `$6` is the number of the last change up to the known position. The change recorded last before the
-- first one that occurred after the check determines the composition: `b` is the one that occurred last, and changes
-- recorded after `b` can have occurred before it.
SELECT n.composition, v.check_name, v.passed, v.occurred_at, v.position
FROM unnest($4::timestamptz[], $5::timestamptz[]) d (since, until)
JOIN verdicts v ON v.subject = $1 AND v.occurred_at >= d.since AND v.occurred_at < d.until
CROSS JOIN LATERAL (
    SELECT l.number FROM live_changes l
    WHERE l.environment_id = $3 AND l.number <= $6 AND l.occurred_at <= v.occurred_at
    ORDER BY l.occurred_at DESC, l.number DESC LIMIT 1
) b
LEFT JOIN LATERAL (
    SELECT l.number FROM live_changes l
    WHERE l.environment_id = $3 AND l.number > b.number AND l.number <= $6 AND l.occurred_at > v.occurred_at
    ORDER BY l.number LIMIT 1
) a ON true
CROSS JOIN LATERAL (
    SELECT l.number, l.composition, l.occurred_at FROM live_changes l
    WHERE l.environment_id = $3 AND l.number = coalesce(a.number - 1, $6) LIMIT 1
) n
-- include fragments/check_start.sql
WHERE (s.occurred_at IS NULL OR s.occurred_at >= n.occurred_at OR s.occurred_at >= (
        -- include fragments/composition_since.sql
    )) AND v.position <= $2 AND v.counts
    AND (v.corrected_position IS NULL OR v.corrected_position > $2)
    AND NOT EXISTS (
        SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
            AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
    )
