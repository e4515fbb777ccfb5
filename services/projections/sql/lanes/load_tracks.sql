SELECT t.track_id, e.name AS environment, t.service, t.target, t.slot, t.late_position,
    t.position, t.occurred_at, t.event_id, t.switched_to, t.version,
    t.artifact, t.config, t.infrastructure, t.commit
FROM tracks t JOIN environments e USING (environment_id)
