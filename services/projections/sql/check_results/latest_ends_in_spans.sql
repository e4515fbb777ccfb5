-- Selects the latest end of each check of a subject within each span. Leaves out ends with a start before the span.
SELECT d.index, v.check_name, v.passed, v.occurred_at, v.position
FROM unnest($1::uuid[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY d (subject, since, until, index)
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (v.check_name) v.check_name, v.passed, v.occurred_at, v.position
    FROM verdicts v
    -- include fragments/check_start.sql
    WHERE v.subject = d.subject AND v.occurred_at >= d.since AND v.occurred_at < d.until
        AND (s.occurred_at IS NULL OR s.occurred_at >= d.since) AND v.position <= $2 AND v.counts
        AND (v.corrected_position IS NULL OR v.corrected_position > $2)
    ORDER BY v.check_name, v.occurred_at DESC, v.position DESC
) v
