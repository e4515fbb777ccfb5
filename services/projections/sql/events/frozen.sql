-- Selects those events that occurred within a freeze, by the rule of `freeze_holds.sql`, and are not steps of a rollback.
SELECT e.position FROM events e
WHERE e.position = ANY($1) AND e.kind IN ('deploy.succeeded', 'deploy.removed', 'traffic.switched')
    AND EXISTS (
        SELECT FROM environments n JOIN freezes f ON f.environment_id = n.environment_id
        WHERE n.name = e.environment
            AND f.started_at <= e.occurred_at AND (f.ends_at IS NULL OR e.occurred_at < f.ends_at)
            AND (f.lifted_at IS NULL OR e.occurred_at < f.lifted_at)
    )
    AND NOT EXISTS (SELECT FROM rollback_reports r WHERE r.position = e.position)
