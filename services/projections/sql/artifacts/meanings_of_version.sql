-- Selects the deploys of a service version up to a time that state an artifact, by moment, and the positions from which
-- corrections replaced them.
SELECT t.environment_id = $1 AS is_here, c.occurred_at, c.position, c.corrected_position, c.artifact
FROM tracks t
JOIN lane_changes c ON c.track_id = t.track_id AND c.version = $3 AND c.artifact IS NOT NULL AND c.occurred_at <= $4
WHERE t.service = $2 ORDER BY c.occurred_at, c.position
