DELETE FROM release_ledger.members WHERE seen_at < clock_timestamp() - make_interval(secs => $1)
