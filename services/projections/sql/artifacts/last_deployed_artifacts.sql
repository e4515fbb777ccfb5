-- Selects the artifact of the latest deploy of each of some versions of services, up to a time. Deploys to the given
-- environment take precedence over those to others.
SELECT v.index, c.artifact, c.position
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY v (service, version, index)
CROSS JOIN LATERAL (
    SELECT c.artifact, c.position
    FROM tracks t
    CROSS JOIN LATERAL (
        SELECT c.artifact, c.position, c.occurred_at FROM lane_changes c
        WHERE c.track_id = t.track_id AND c.version = v.version AND c.artifact IS NOT NULL AND c.occurred_at <= $4
            AND c.corrected_position IS NULL
        ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
    ) c
    WHERE t.service = v.service
    ORDER BY t.environment_id = $1 DESC, c.occurred_at DESC, c.position DESC LIMIT 1
) c
