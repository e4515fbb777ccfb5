-- Selects the time since which environment `$3` runs the composition of change `n`: a redeploy of the same release, perhaps
-- under another spelling, is a change and not another composition.
SELECT x.occurred_at FROM live_changes x
WHERE x.environment_id = $3 AND x.number = 1 + coalesce((
    SELECT y.number FROM live_changes y
    WHERE y.environment_id = $3 AND y.number < n.number AND y.composition <> n.composition
    ORDER BY y.number DESC LIMIT 1
), 0) LIMIT 1
