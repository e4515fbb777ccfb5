-- Selects an event, its corrections, and their corrections in turn, as far as they still have effect.
WITH RECURSIVE chain AS (
    SELECT $1::bigint AS position
    UNION
    SELECT c.corrected_position FROM corrections c JOIN chain USING (position) WHERE c.named
)
SELECT position FROM chain h
WHERE NOT EXISTS (SELECT FROM corrections c WHERE c.position = h.position) ORDER BY position
