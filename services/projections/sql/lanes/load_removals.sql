-- Selects the removals of lanes: a removal empties a slot if a late report shows that the deploy to the slot is older.
SELECT t.track_id, e.name AS environment, t.service, t.target, t.slot, NULL::bigint AS late_position,
    c.position, c.occurred_at, c.event_id, c.switched_to, c.version,
    c.artifact, c.config, c.infrastructure, c.commit
FROM tracks t JOIN environments e USING (environment_id)
JOIN lane_changes c ON c.track_id = t.track_id AND c.version IS NULL AND c.switched_to IS NULL
    AND c.corrected_position IS NULL
WHERE t.slot IS NULL
