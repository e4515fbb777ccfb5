-- Selects composition changes, latest first. What a lane ran before a change is the release of its row before.
SELECT c.number, c.service, c.target, c.position, c.occurred_at, c.event_id, c.before_slot, c.before_position,
    c.before_at, c.before_event_id, b.version AS before_version, b.artifact AS before_artifact,
    b.config AS before_config, b.infrastructure AS before_infrastructure, b.commit AS before_commit, c.composition
FROM live_changes c
LEFT JOIN LATERAL (
    SELECT b.version, b.artifact, b.config, b.infrastructure, b.commit FROM live_changes b
    WHERE b.environment_id = c.environment_id AND b.service = c.service AND b.target = c.target
        AND b.number < c.number
    ORDER BY b.number DESC LIMIT 1
) b ON c.before_position IS NOT NULL
WHERE c.environment_id = $1 AND c.number > $2 AND c.number <= $3
ORDER BY c.number DESC, c.service, c.target
