-- Selects the environments that entries after a position name. An incident or an activity may name one that does not exist.
SELECT DISTINCT environment FROM events JOIN environments ON name = environment WHERE position > $1 ORDER BY environment
