SELECT position, occurred_at, granted, expires_at, actor_kind, actor_name, target, version, artifact,
    config, infrastructure, commit
FROM approvals WHERE subject = $1 ORDER BY position
