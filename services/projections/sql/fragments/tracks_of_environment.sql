-- Joins the tracks `t` of the environment named `$1`; one row of nulls if no event names it. The lane of a track is
-- irregular if `i` has a row.
FROM projection p
LEFT JOIN environments e ON e.name = $1
LEFT JOIN tracks t ON t.environment_id = e.environment_id
LEFT JOIN irregular_lanes i
    ON i.environment_id = t.environment_id AND i.service = t.service AND i.target = t.target
