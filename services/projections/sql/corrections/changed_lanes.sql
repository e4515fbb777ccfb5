SELECT DISTINCT e.environment_id, e.name, t.service, t.target
FROM lane_changes c JOIN tracks t USING (track_id) JOIN environments e ON e.environment_id = t.environment_id
WHERE c.position = ANY($1)
