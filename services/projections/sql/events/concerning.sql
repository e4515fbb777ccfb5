-- Selects true if an entry after a position names one of the environments, or none, belongs to a rollback, or corrects
-- an event: the environment of the corrected event is not looked up.
SELECT EXISTS (SELECT FROM corrections WHERE corrected_position > $1)
    OR EXISTS (SELECT FROM corrections_ahead WHERE position > $1)
    OR EXISTS (
    SELECT FROM events
    WHERE position > $1 AND (environment IS NULL OR environment = ANY($2::text[]) OR kind LIKE 'rollback.%')
)
