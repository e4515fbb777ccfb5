SELECT position, service, target, version, occurred_at, succeeded FROM irreversible_deploys
WHERE environment_id = $1 AND corrected_position IS NULL ORDER BY position
