SELECT e.name AS environment, o.environment_id, o.service, o.target, o.position, o.occurred_at, o.is_end,
    o.overtaken, o.slot, o.deployment, o.reversible, o.rollback_id, o.version, o.artifact,
    o.config, o.infrastructure, o.commit
FROM open_deploys o JOIN environments e USING (environment_id)
