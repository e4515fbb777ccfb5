INSERT INTO marks (environment_id, position, occurred_at, point, status, name, actor_kind,
    actor_name, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
