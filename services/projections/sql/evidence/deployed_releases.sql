-- Selects the releases of a service with one of some artifacts, or with a version and no artifact, each with its last
-- deploy. If no artifacts are given, selects all releases of the version.
SELECT t.target, c.version, c.artifact, c.config, c.infrastructure, c.commit,
    max(c.position) AS position
FROM tracks t
JOIN lane_changes c ON c.track_id = t.track_id AND c.corrected_position IS NULL
    AND (c.artifact_key = ANY($3) OR c.package_key = ANY($3) OR c.version = $4
        AND (c.artifact IS NULL OR cardinality($3) = 0))
WHERE t.environment_id = $1 AND t.service = $2
GROUP BY 1, 2, 3, 4, 5, 6
