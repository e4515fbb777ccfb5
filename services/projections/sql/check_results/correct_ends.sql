UPDATE verdicts SET corrected_position = $2 WHERE position = $1 AND corrected_position IS NULL
