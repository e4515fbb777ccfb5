-- Sets the release that a rollback leaves to the one that the lane runs at the start, for lanes in which a person
-- acknowledged that it differs from the plan.
UPDATE rollback_lanes l
SET (version, artifact, config, infrastructure, commit) = (
    SELECT c.version, c.artifact, c.config, c.infrastructure, c.commit FROM live_changes c
    WHERE c.environment_id = l.environment_id AND c.service = l.service AND c.target = l.target AND c.position < $2
    ORDER BY c.position DESC LIMIT 1
)
FROM rollbacks r
WHERE r.rollback_id = $1 AND r.started = $2 AND l.environment_id = r.environment_id
    AND l.requested = r.requested AND (l.service, l.target) IN (SELECT * FROM unnest($3::text[], $4::text[]))
