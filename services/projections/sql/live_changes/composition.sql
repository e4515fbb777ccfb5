SELECT composition FROM live_changes WHERE environment_id = $1 AND number = $2 LIMIT 1
