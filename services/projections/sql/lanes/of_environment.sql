-- Selects every lane that an environment ever had.
SELECT DISTINCT service, target FROM tracks WHERE environment_id = $1 ORDER BY 1, 2
