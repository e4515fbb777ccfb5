-- Selects the releases of a service with one of some artifacts, or with a version and no artifact, each with its last
-- deploy. If no artifacts are given, selects all releases of the version.
WITH lanes AS (
    SELECT track_id, target FROM tracks WHERE environment_id = $1 AND service = $2
), deploys AS (
    SELECT l.target, c.* FROM lanes l JOIN lane_changes c USING (track_id) WHERE c.artifact_key = ANY($3)
    UNION ALL
    SELECT l.target, c.* FROM lanes l JOIN lane_changes c USING (track_id) WHERE c.package_key = ANY($3)
    UNION ALL
    SELECT l.target, c.* FROM lanes l JOIN lane_changes c USING (track_id)
    WHERE c.version = $4 AND (c.artifact IS NULL OR cardinality($3) = 0)
)
SELECT target, version, artifact, config, infrastructure, commit, max(position) AS position
FROM deploys WHERE corrected_position IS NULL
GROUP BY 1, 2, 3, 4, 5, 6
