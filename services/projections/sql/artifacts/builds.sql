SELECT version, artifact, occurred_at, position FROM builds
WHERE version = ANY($1) AND position <= $2 ORDER BY occurred_at, position
