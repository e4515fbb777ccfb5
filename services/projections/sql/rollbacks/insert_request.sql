INSERT INTO rollbacks (rollback_id, environment_id, requested, recorded_at, automatic, by_person, phase)
VALUES ($1, $2, $3, $4, $5, $6, 'requested') ON CONFLICT (rollback_id) DO NOTHING
