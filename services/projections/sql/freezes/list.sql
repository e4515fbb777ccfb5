-- Selects the freezes of environments that started before a position, the newest start first, with the events of their
-- start and their lift. A time limits them to those in force then, at most $5 of each environment; null selects all.
SELECT n.name, f.freeze_id, f.started, f.started_at, f.ends_at, s.bytes, f.lifted, f.lifted_at, l.bytes AS lift
FROM environments n
CROSS JOIN LATERAL (
    SELECT * FROM freezes f
    WHERE f.environment_id = n.environment_id AND f.started < $3 AND ($2::timestamptz IS NULL OR (
        -- include fragments/freeze_holds.sql
    ))
    ORDER BY f.started DESC LIMIT $5
) f
JOIN events s ON s.position = f.started
LEFT JOIN events l ON l.position = f.lifted
WHERE n.name = ANY($1::text[])
ORDER BY f.started DESC LIMIT $4
