SELECT position, bytes FROM events
WHERE kind = 'validation.failed' AND position > $1 AND repeats IS NULL ORDER BY position LIMIT $2
