SELECT rollback_id, requested FROM rollbacks
WHERE environment_id = $1 AND ended IS NULL ORDER BY requested DESC LIMIT 1
