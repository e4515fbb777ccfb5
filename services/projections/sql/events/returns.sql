-- Selects, of those events that return a lane to a release that it ran before, the position at which that release last
-- went live. See `returns_to.sql`.
SELECT e.position, back.position FROM events e
CROSS JOIN LATERAL (
    -- include fragments/returns_to.sql
) back
WHERE e.position = ANY($1) AND back.position IS NOT NULL
