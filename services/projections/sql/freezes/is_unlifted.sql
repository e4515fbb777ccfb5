SELECT EXISTS (
    SELECT FROM freezes
    WHERE environment_id = $1 AND freeze_id = $2 AND lifted IS NULL AND coalesce(ends_at, 'infinity') > $3
)
