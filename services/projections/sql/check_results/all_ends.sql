-- Selects all ends, each with its start.
SELECT v.subject, v.check_name, v.passed, v.occurred_at, v.position, s.occurred_at AS started_at,
    v.artifact, v.config, v.infrastructure, v.commit
FROM verdicts v
-- include fragments/check_start.sql
WHERE v.subject = ANY($1) AND v.position <= $2 AND v.counts
    AND (v.corrected_position IS NULL OR v.corrected_position > $2)
