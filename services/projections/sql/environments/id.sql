SELECT environment_id FROM environments WHERE name = $1
