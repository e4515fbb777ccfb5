-- Selects composition changes, latest first.
SELECT number, service, target, position, occurred_at, event_id, before_slot, before_position,
    before_at, before_event_id, before_version, before_artifact, before_config, before_infrastructure,
    before_commit, composition
FROM live_changes
WHERE environment_id = $1 AND number > $2 AND number <= $3
ORDER BY number DESC, service, target
