-- Selects the deploys of a version to a lane, each with the time of the next change of its track.
SELECT r.index, t.slot, c.occurred_at, c.position, n.occurred_at AS until, c.version, c.artifact, c.config,
    c.infrastructure, c.commit, c.deployment
FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY r (service, target, version, index)
JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target
JOIN lane_changes c ON c.track_id = t.track_id AND c.version = r.version AND c.position <= $5
    AND (c.corrected_position IS NULL OR c.corrected_position > $5)
LEFT JOIN LATERAL (
    SELECT n.occurred_at FROM lane_changes n
    WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
        AND n.position <= $5 AND (n.corrected_position IS NULL OR n.corrected_position > $5)
    ORDER BY n.occurred_at, n.position LIMIT 1
) n ON true
