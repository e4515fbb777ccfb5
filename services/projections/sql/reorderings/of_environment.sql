SELECT since, until FROM reorderings WHERE environment_id = $1 AND position <= $2
