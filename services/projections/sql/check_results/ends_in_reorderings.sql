-- Selects the ends of checks of an environment within reorderings.
SELECT v.check_name, v.passed, v.occurred_at, v.position, s.occurred_at AS started_at
FROM verdicts v
-- include fragments/check_start.sql
WHERE v.subject = $1 AND v.position <= $2 AND v.counts
    AND (v.corrected_position IS NULL OR v.corrected_position > $2)
    AND EXISTS (
        SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
            AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
    )
