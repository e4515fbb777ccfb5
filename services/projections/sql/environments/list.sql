SELECT p.position, e.name, e.first_position, e.changes, (
    SELECT r.retires FROM retirements r WHERE r.environment_id = e.environment_id
    ORDER BY r.occurred_at DESC, r.position DESC LIMIT 1
) AS retired
FROM projection p LEFT JOIN environments e ON true ORDER BY e.name
