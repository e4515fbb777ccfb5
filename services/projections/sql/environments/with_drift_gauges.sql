-- Selects the environments that can have drift: they have observations, or a service that runs at several targets.
SELECT e.name FROM environments e
WHERE EXISTS (SELECT FROM observations o WHERE o.environment_id = e.environment_id) OR EXISTS (
    SELECT FROM tracks t WHERE t.environment_id = e.environment_id
    GROUP BY t.service HAVING count(DISTINCT t.target) > 1
)
ORDER BY e.name
