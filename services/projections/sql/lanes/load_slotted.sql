-- Selects the changes of lanes that have slots or are irregular: late reports may affect what these lanes run.
SELECT t.track_id, e.name AS environment, t.service, t.target, t.slot, NULL::bigint AS late_position,
    c.position, c.occurred_at, c.event_id, c.switched_to, c.version,
    c.artifact, c.config, c.infrastructure, c.commit
FROM tracks t JOIN environments e USING (environment_id)
JOIN lane_changes c ON c.track_id = t.track_id AND c.corrected_position IS NULL
WHERE EXISTS (
    SELECT FROM tracks s WHERE s.environment_id = t.environment_id AND s.service = t.service
        AND s.target = t.target AND s.slot IS NOT NULL
) OR EXISTS (
    SELECT FROM irregular_lanes i WHERE i.environment_id = t.environment_id AND i.service = t.service
        AND i.target = t.target
)
