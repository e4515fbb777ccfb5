-- Selects the last change of each track of an environment.
SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
    i.position IS NOT NULL AS irregular, t.late_position,
    t.position, t.occurred_at, t.event_id, t.switched_to, t.version,
    t.artifact, t.config, t.infrastructure, t.commit
-- include fragments/tracks_of_environment.sql
