-- Selects, for each moment, the artifact of the latest deploy of a service version up to it, by what was known at a
-- position. Deploys to the given environment take precedence over those to others, by the rule of
-- `version_meaning::artifact_of_version` in domain.
SELECT m.index, c.artifact, c.position
FROM unnest($4::timestamptz[], $5::bigint[], $6::bigint[]) WITH ORDINALITY AS m (occurred_at, position, known_at, index)
CROSS JOIN LATERAL (
    SELECT c.artifact, c.position
    FROM tracks t
    CROSS JOIN LATERAL (
        SELECT c.artifact, c.position, c.occurred_at FROM lane_changes c
        WHERE c.track_id = t.track_id AND c.version = $3 AND c.artifact IS NOT NULL
            AND (c.occurred_at, c.position) <= (m.occurred_at, m.position)
            AND c.position <= m.known_at AND (c.corrected_position IS NULL OR c.corrected_position > m.known_at)
        ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
    ) c
    WHERE t.service = $2
    ORDER BY t.environment_id = $1 DESC, c.occurred_at DESC, c.position DESC LIMIT 1
) c
