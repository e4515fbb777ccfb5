-- Selects the changes after which a lane runs a release of a version, latest first.
SELECT position, occurred_at, event_id, artifact, config, infrastructure, commit FROM live_changes
WHERE environment_id = $1 AND service = $2 AND target = $3 AND version = $4
ORDER BY position DESC LIMIT 100
