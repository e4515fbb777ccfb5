-- Selects the times of changes in the lanes of an environment after one time, up to and including another.
SELECT DISTINCT occurred_at FROM (
    SELECT c.occurred_at FROM lane_changes c
    WHERE c.environment_id = $1 AND c.position <= $2 AND c.occurred_at > $3 AND c.occurred_at <= $4
    UNION ALL
    SELECT r.occurred_at FROM retirements r
    WHERE r.environment_id = $1 AND r.position <= $2 AND r.occurred_at > $3 AND r.occurred_at <= $4
) c ORDER BY 1
