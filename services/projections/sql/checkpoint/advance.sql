-- The fence: of two projectors that start from the same position, one updates the row and the other matches no row.
UPDATE projection SET position = $2, stream_created = $3, leaf_hash = $4, root = $5
WHERE position = $1 RETURNING position
