SELECT p.position, e.changes, c.position
FROM projection p
LEFT JOIN environments e ON e.name = $1
LEFT JOIN LATERAL (
    SELECT l.position FROM live_changes l
    WHERE l.environment_id = e.environment_id AND l.number = e.changes - $2 LIMIT 1
) c ON true
