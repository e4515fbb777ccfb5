SELECT e.position, e.bytes FROM policies p JOIN events e USING (position)
WHERE p.environment_id = $1 AND p.position <= $2 ORDER BY p.position DESC LIMIT 1
