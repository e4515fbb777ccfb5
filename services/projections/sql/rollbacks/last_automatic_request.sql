SELECT max(recorded_at) FROM rollbacks WHERE environment_id = $1 AND automatic
