-- Selects all changes of some lanes that have effect as known at a position, up to a time.
SELECT l.index, t.slot,
    c.position, c.occurred_at, c.event_id, c.switched_to, c.version,
    c.artifact, c.config, c.infrastructure, c.commit
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY l (service, target, index)
JOIN tracks t ON t.environment_id = $1 AND t.service = l.service AND t.target = l.target
JOIN lane_changes c ON c.track_id = t.track_id AND c.position <= $4 AND c.occurred_at <= $5
    AND (c.corrected_position IS NULL OR c.corrected_position > $4)
