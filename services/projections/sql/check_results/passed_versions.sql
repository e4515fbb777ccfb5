-- Selects the versions of a service for which a check passed; null for a pass that names no version. A pass of an
-- artifact or of the whole environment names no service either.
SELECT DISTINCT service, version FROM verdicts
WHERE check_name = $1 AND passed AND (
    environment_id = $2 AND service = $3 OR environment_id = $2 AND service IS NULL OR environment_id IS NULL
)
LIMIT $4
