SELECT position, bytes FROM events WHERE identity = $1 AND repeats IS NULL
