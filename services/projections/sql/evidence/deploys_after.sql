-- Selects the deploys to a lane after a position: the last deploy per release and rollback, and all late ones, since
-- those are not in time order.
SELECT DISTINCT ON (c.version, c.artifact, c.config, c.infrastructure, c.commit,
        p.rollback_id, CASE WHEN c.behind THEN c.position END)
    c.position, c.occurred_at, c.behind, p.rollback_id, c.version, c.artifact, c.config, c.infrastructure, c.commit
FROM tracks t
JOIN lane_changes c ON c.track_id = t.track_id AND c.position > $4 AND c.version IS NOT NULL
    AND c.corrected_position IS NULL
LEFT JOIN rollback_reports p ON p.position = c.position
WHERE t.environment_id = $1 AND t.service = $2 AND t.target = $3
ORDER BY c.version, c.artifact, c.config, c.infrastructure, c.commit, p.rollback_id,
    CASE WHEN c.behind THEN c.position END, c.position DESC
