UPDATE rollbacks SET phase = 'started', started = $2
WHERE rollback_id = $1 AND phase = 'requested'
