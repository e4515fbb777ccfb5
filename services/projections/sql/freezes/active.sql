SELECT freeze_id, ends_at, started FROM freezes
WHERE environment_id = $1 AND started_at <= $2 AND coalesce(ends_at, 'infinity') > $2
    AND coalesce(lifted_at, 'infinity') > $2
ORDER BY started
