SELECT issuer, subject, principal, token_hash, ends_at FROM release_ledger.sessions WHERE hash = $1 AND ends_at > $2
