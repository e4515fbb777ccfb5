DELETE FROM open_deploys o USING unnest($1::integer[], $2::bigint[]) d (environment_id, position)
WHERE o.environment_id = d.environment_id AND o.position = d.position
