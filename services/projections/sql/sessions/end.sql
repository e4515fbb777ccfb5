DELETE FROM release_ledger.sessions WHERE hash = $1
