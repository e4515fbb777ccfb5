-- Selects every lane to which an artifact was ever deployed. The state of a lane says whether traffic reaches it now.
SELECT DISTINCT e.name, t.service, t.target
FROM tracks t JOIN environments e USING (environment_id)
WHERE EXISTS (
    SELECT FROM lane_changes c
    WHERE c.track_id = t.track_id AND (c.artifact_key = ANY($1) OR c.package_key = ANY($1))
)
ORDER BY 1, 2, 3
