DELETE FROM release_ledger.followers WHERE tenant = $1
