-- Selects true if any check passed in an environment, or for an artifact.
SELECT EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND passed)
    OR EXISTS (SELECT FROM verdicts WHERE environment_id IS NULL AND passed)
