UPDATE release_ledger.generations SET state = 'retired', retired_at = clock_timestamp()
WHERE tenant = $1 AND version = $2 AND number = $3
