-- Selects the number of the last composition change up to a position. Uses a binary search: numbers and positions rise
-- together.
WITH RECURSIVE search AS (
    SELECT environment_id, 0::bigint AS low, changes AS high FROM environments WHERE environment_id = $1
    UNION ALL
    SELECT s.environment_id,
        CASE WHEN c.position <= $2 THEN m.middle ELSE s.low END,
        CASE WHEN c.position <= $2 THEN s.high ELSE m.middle - 1 END
    FROM search s
    CROSS JOIN LATERAL (SELECT (s.low + s.high + 1) / 2 AS middle) m
    CROSS JOIN LATERAL (
        SELECT c.position FROM live_changes c
        WHERE c.environment_id = s.environment_id AND c.number = m.middle LIMIT 1
    ) c
    WHERE s.low < s.high
)
SELECT low FROM search WHERE low = high
