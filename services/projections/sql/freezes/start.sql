INSERT INTO freezes (environment_id, freeze_id, started, started_at, ends_at)
VALUES ($1, $2, $3, $4, $5)
