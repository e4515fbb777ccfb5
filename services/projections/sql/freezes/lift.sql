UPDATE freezes SET lifted = $3, lifted_at = $4
WHERE environment_id = $1 AND freeze_id = $2 AND lifted IS NULL
