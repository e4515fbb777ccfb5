UPDATE release_ledger.generations SET state = 'live', live_at = clock_timestamp()
WHERE tenant = $1 AND version = $2 AND number = $3
