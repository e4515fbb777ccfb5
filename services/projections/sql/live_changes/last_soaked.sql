-- Selects the number of the last of the given changes after which the composition ran for a number of seconds.
SELECT max(number) FROM (
    SELECT number, lead(occurred_at) OVER (ORDER BY number) - occurred_at AS stood FROM (
        SELECT DISTINCT number, occurred_at FROM live_changes
        WHERE environment_id = $1 AND number > $2 AND number <= $3 + 1
    ) c
) s
WHERE extract(epoch FROM stood) >= $4::float8 AND number <= $3
