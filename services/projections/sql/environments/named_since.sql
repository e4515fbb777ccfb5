-- Selects the environments that entries after a position name.
SELECT DISTINCT environment FROM events WHERE position > $1 AND environment IS NOT NULL ORDER BY environment
