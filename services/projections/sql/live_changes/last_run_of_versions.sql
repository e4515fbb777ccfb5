-- Selects the number of the last change before another at which a lane runs one of these versions, or nothing.
SELECT max(least(coalesce(n.number, $4), $4) - 1) FROM (
    SELECT l.number FROM unnest($5::text[]) v (version)
    CROSS JOIN LATERAL (
        SELECT c.number FROM live_changes c
        WHERE c.environment_id = $1 AND c.service = $2 AND c.target = $3 AND c.version = v.version AND c.number < $4
        ORDER BY c.position DESC LIMIT 1
    ) l
    UNION ALL
    (
        SELECT c.number FROM live_changes c
        WHERE c.environment_id = $1 AND c.service = $2 AND c.target = $3 AND c.version IS NULL AND c.number < $4
        ORDER BY c.position DESC LIMIT 1
    )
    UNION ALL
    SELECT 0
) r
LEFT JOIN LATERAL (
    SELECT c.number FROM live_changes c
    WHERE c.environment_id = $1 AND c.service = $2 AND c.target = $3 AND c.number > r.number
    ORDER BY c.number LIMIT 1
) n ON true
