-- Selects the rollbacks of a lane. A rollback that changed the version is over once a release of a third version was
-- deployed after it. For all others, the caller has to compare the releases.
SELECT r.rollback_id, l.requested, r.started IS NOT NULL, r.phase = 'cancelled', r.by_person,
    l.version, l.artifact, l.config, l.infrastructure, l.commit,
    l.to_version, l.to_artifact, l.to_config, l.to_infrastructure, l.to_commit,
    r.ended,
    EXISTS (
        SELECT FROM tracks t JOIN lane_changes c USING (track_id)
        WHERE t.environment_id = $1 AND t.service = $2 AND t.target = $3
            AND c.position > r.ended AND c.version IS NOT NULL AND c.version IS DISTINCT FROM l.version
            AND c.version IS DISTINCT FROM l.to_version AND l.version IS DISTINCT FROM l.to_version
            AND NOT c.behind AND c.corrected_position IS NULL
            AND NOT EXISTS (SELECT FROM rollback_reports p WHERE p.position = c.position)
    ) AS is_over
FROM rollback_lanes l JOIN rollbacks r ON r.requested = l.requested
WHERE l.environment_id = $1 AND l.service = $2 AND l.target = $3
ORDER BY l.requested
