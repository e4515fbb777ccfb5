SELECT position, artifact, deleted, reinstates FROM revocations
WHERE artifact_key = ANY($1) OR package_key = ANY($1) ORDER BY occurred_at, position
