-- Selects the position of the first correction of each of those events that have one.
SELECT position, min(corrected_position) FROM corrections WHERE position = ANY($1) GROUP BY position
