-- Selects the traffic switches of a regular lane, each with the time of the next change of its traffic.
SELECT r.index, c.switched_to, c.occurred_at, n.occurred_at AS until
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY r (service, target, index)
JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target AND t.slot IS NULL
JOIN lane_changes c ON c.track_id = t.track_id AND c.switched_to IS NOT NULL AND c.position <= $4
LEFT JOIN LATERAL (
    SELECT n.occurred_at FROM lane_changes n
    WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
        AND n.position <= $4
    ORDER BY n.occurred_at, n.position LIMIT 1
) n ON true
