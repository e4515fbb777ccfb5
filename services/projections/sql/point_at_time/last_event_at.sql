-- Selects the last event that affected an environment's composition at exactly this time.
SELECT position, event_id FROM (
    SELECT position, event_id FROM lane_changes
    WHERE environment_id = $1 AND occurred_at = $2 AND position <= $3 AND corrected_position IS NULL
    UNION ALL
    SELECT position, event_id FROM retirements
    WHERE environment_id = $1 AND occurred_at = $2 AND position <= $3
) c ORDER BY position DESC LIMIT 1
