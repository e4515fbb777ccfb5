-- Selects no rows if the environment was never retired: declarations do not matter then.
SELECT r.occurred_at, r.position, r.retires FROM retirements r
WHERE r.environment_id = $1 AND r.position <= $2
    AND EXISTS (SELECT FROM retirements e WHERE e.environment_id = $1 AND e.retires)
