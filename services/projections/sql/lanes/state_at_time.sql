-- Selects the last change of each track of an environment up to time `$3`, as known at position `$2`. The look-up
-- starts at the time of the last change that is not late, `known`, so that it skips only late reports.
SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
    i.position IS NOT NULL AS irregular, NULL::bigint AS late_position,
    c.position, c.occurred_at, c.event_id, c.switched_to, c.version,
    c.artifact, c.config, c.infrastructure, c.commit
-- include fragments/tracks_of_environment.sql
LEFT JOIN LATERAL (
    SELECT c.occurred_at FROM lane_changes c
    WHERE c.track_id = t.track_id AND NOT c.late AND c.position <= $2
    ORDER BY c.position DESC LIMIT 1
) known ON true
LEFT JOIN LATERAL (
    SELECT * FROM lane_changes c
    WHERE c.track_id = t.track_id AND c.occurred_at <= LEAST($3, known.occurred_at) AND c.position <= $2
        AND known.occurred_at IS NOT NULL
    ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
) c ON true
