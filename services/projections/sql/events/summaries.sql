SELECT position, kind, environment, service FROM events WHERE position > $1 ORDER BY position LIMIT $2
