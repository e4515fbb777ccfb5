SELECT recorded_at FROM rollbacks
WHERE environment_id = $1 AND automatic AND recorded_at > $2 ORDER BY recorded_at
