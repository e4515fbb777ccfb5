-- Selects events that changed the environment's composition after one change, before a position, and are no reports of
-- the rollback.
SELECT e.position, e.target, e.bytes FROM (
    SELECT DISTINCT c.number, c.position FROM environments n JOIN live_changes c USING (environment_id)
    WHERE n.name = $1 AND c.number > $2
        AND ($3::bigint IS NULL OR c.position < $3)
        AND NOT EXISTS (SELECT FROM rollback_reports r WHERE r.rollback_id = $4 AND r.position = c.position)
    ORDER BY c.number LIMIT 100
) c JOIN events e USING (position)
ORDER BY c.number
