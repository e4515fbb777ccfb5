INSERT INTO approvals (position, subject, occurred_at, granted, expires_at, actor_kind,
    actor_name, target, version, artifact, config, infrastructure, commit)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
