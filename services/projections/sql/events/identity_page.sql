-- Reads only the unique index of identities, in pages of any history's size.
SELECT identity FROM events WHERE repeats IS NULL AND identity > $1 ORDER BY identity LIMIT $2
