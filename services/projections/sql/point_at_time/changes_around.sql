-- Selects the number of the last composition change up to a time, and the time of the first change after it.
SELECT
    (SELECT number FROM live_changes WHERE environment_id = $1 AND occurred_at <= $2 AND position <= $3
        ORDER BY occurred_at DESC, number DESC LIMIT 1),
    (SELECT occurred_at FROM live_changes WHERE environment_id = $1 AND occurred_at > $2 AND position <= $3
        ORDER BY occurred_at, number LIMIT 1)
