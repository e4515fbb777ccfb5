-- Records an attempt with the state of the deliveries after it, and forgets the attempts before the last hundred.
WITH state AS (
    INSERT INTO release_ledger.webhook_deliveries AS d
        (tenant, follower, settings_position, attempts, failures, failing_since, next_attempt_at)
    VALUES ($1, $2, $3, 1, $9, $10, $11)
    ON CONFLICT (tenant, follower) DO UPDATE SET
        settings_position = excluded.settings_position,
        attempts = d.attempts + 1,
        failures = excluded.failures,
        failing_since = excluded.failing_since,
        next_attempt_at = excluded.next_attempt_at
    RETURNING attempts
), forgotten AS (
    DELETE FROM release_ledger.webhook_attempts a USING state
    WHERE a.tenant = $1 AND a.follower = $2 AND a.number <= state.attempts - 100
)
INSERT INTO release_ledger.webhook_attempts
    (tenant, follower, number, position, attempted_at, duration_ms, status, error)
SELECT $1, $2, state.attempts, $4::bigint, $5::timestamptz, $6::bigint, $7::integer, $8::text FROM state
