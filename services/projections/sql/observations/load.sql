SELECT e.name AS environment, o.service, o.target, o.slot, o.version, o.artifact, o.config,
    o.infrastructure, o.commit, o.since_position, o.since_occurred_at, o.since_event_id, o.last_position,
    o.last_occurred_at, o.last_event_id
FROM observations o JOIN environments e USING (environment_id)
