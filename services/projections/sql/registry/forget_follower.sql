DELETE FROM release_ledger.followers WHERE tenant = $1 AND name = $2
