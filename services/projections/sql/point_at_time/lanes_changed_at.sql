-- Selects the lanes that changed at exactly this time, each with its number of changes.
SELECT t.service, t.target, count(*)
FROM tracks t JOIN lane_changes c USING (track_id)
WHERE t.environment_id = $1 AND c.occurred_at = $2 AND c.position <= $3
GROUP BY t.service, t.target
