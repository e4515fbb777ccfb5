SELECT position, leaf_hash FROM events ORDER BY position DESC LIMIT 1
