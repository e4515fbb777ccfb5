-- Begins a session. Removes at most 1,000 sessions that have ended by $6, and of the sessions of the principal the oldest
-- beyond the newest $8. Both never remove the same row, and skip those that other statements remove: two such statements
-- do not wait for each other, also if the clocks of their processes differ.
WITH ended AS (
    DELETE FROM release_ledger.sessions
    WHERE hash IN (
        SELECT hash FROM release_ledger.sessions WHERE ends_at <= $6::timestamptz
        ORDER BY ends_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
), excess AS (
    DELETE FROM release_ledger.sessions
    WHERE hash IN (
        SELECT hash FROM release_ledger.sessions
        WHERE hash IN (
            SELECT hash FROM release_ledger.sessions
            WHERE issuer = $2 AND subject = $3 AND ends_at > $6::timestamptz
            ORDER BY created_at DESC, hash OFFSET $8
        )
        FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO release_ledger.sessions (hash, issuer, subject, principal, token_hash, created_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
