SELECT position, bytes FROM events
WHERE position = ANY($1) AND kind IN ('validation.passed', 'validation.failed')
