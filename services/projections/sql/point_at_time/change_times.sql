-- Selects the times of all changes in an environment's lanes.
SELECT DISTINCT occurred_at FROM (
    SELECT occurred_at FROM lane_changes WHERE environment_id = $1 AND position <= $2
    UNION ALL
    SELECT occurred_at FROM retirements WHERE environment_id = $1 AND position <= $2
) c ORDER BY 1
