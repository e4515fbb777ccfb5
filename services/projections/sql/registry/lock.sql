SELECT number, state, coalesce(owner = $3, false) FROM release_ledger.generations
WHERE tenant = $1 AND version = $2 AND state <> 'retired' ORDER BY number FOR UPDATE
