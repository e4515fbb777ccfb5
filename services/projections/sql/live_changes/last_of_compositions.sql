-- Selects the number of the last change before another from which on the environment runs one of these compositions.
SELECT max(l.number) FROM unnest($3::bytea[]) c (composition)
CROSS JOIN LATERAL (
    SELECT number FROM live_changes
    WHERE environment_id = $1 AND composition = c.composition AND number < $2
    ORDER BY number DESC LIMIT 1
) l
