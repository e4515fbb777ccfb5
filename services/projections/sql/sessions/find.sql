SELECT issuer, subject, principal, token_hash, created_at, ends_at FROM release_ledger.sessions
WHERE hash = $1 AND ends_at > $2
