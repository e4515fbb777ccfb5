SELECT recorded_at, reason, leaf_hash FROM foreign_entries WHERE position = $1
