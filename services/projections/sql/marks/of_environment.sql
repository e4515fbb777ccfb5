SELECT position, occurred_at, point, status, name, actor_kind, actor_name, reason FROM marks
WHERE environment_id = $1 AND position <= $2 ORDER BY position
