-- Selects the deploys of service versions that state an artifact, by moment. Of consecutive ones with one spelling of an
-- artifact, to the given environment or to others, selects only the first.
SELECT service, version, is_here, occurred_at, position, artifact FROM (
    SELECT r.service, r.version, h.is_here, c.occurred_at, c.position, c.artifact,
        lag(c.artifact) OVER (
            PARTITION BY r.service, r.version, h.is_here ORDER BY c.occurred_at, c.position
        ) AS previous
    FROM unnest($2::text[], $3::text[]) r (service, version)
    JOIN tracks t ON t.service = r.service
    CROSS JOIN LATERAL (SELECT t.environment_id = $1 AS is_here) h
    JOIN lane_changes c ON c.track_id = t.track_id AND c.version = r.version AND c.artifact IS NOT NULL
        AND c.position <= $4 AND (c.corrected_position IS NULL OR c.corrected_position > $4)
) d
WHERE previous IS DISTINCT FROM artifact ORDER BY occurred_at, position
