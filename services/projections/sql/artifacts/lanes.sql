-- Selects every lane to which an artifact was ever deployed. The state of a lane says whether traffic reaches it now.
SELECT DISTINCT e.name, t.service, t.target
FROM (
    SELECT track_id FROM lane_changes WHERE artifact_key = ANY($1)
    UNION
    SELECT track_id FROM lane_changes WHERE package_key = ANY($1)
) c
JOIN tracks t USING (track_id) JOIN environments e USING (environment_id)
ORDER BY 1, 2, 3
