-- Selects the artifact of the latest deploy of a service version up to a time, as known at a position. Deploys to the
-- given environment take precedence over those to others.
SELECT c.artifact, c.position
FROM tracks t
CROSS JOIN LATERAL (
    SELECT c.artifact, c.position, c.occurred_at FROM lane_changes c
    WHERE c.track_id = t.track_id AND c.version = $3 AND c.artifact IS NOT NULL AND c.occurred_at <= $4
        AND c.position <= $5 AND (c.corrected_position IS NULL OR c.corrected_position > $5)
    ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
) c
WHERE t.service = $2
ORDER BY t.environment_id = $1 DESC, c.occurred_at DESC, c.position DESC LIMIT 1
