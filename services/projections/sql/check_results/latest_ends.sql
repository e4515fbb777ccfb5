-- Selects the latest end of each check, for each combination of stated release parts.
SELECT DISTINCT ON (subject, check_name, artifact, config, infrastructure, commit)
    subject, check_name, passed, occurred_at, position, NULL::timestamptz AS started_at,
    artifact, config, infrastructure, commit
FROM verdicts v
WHERE subject = ANY($1) AND v.position <= $2 AND v.counts
    AND (v.corrected_position IS NULL OR v.corrected_position > $2)
ORDER BY subject, check_name, artifact, config, infrastructure, commit, occurred_at DESC, position DESC
