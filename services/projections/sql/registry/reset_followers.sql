UPDATE release_ledger.followers SET position = 0 WHERE tenant = $1
