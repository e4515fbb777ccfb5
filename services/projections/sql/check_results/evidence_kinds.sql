-- Selects the kinds of evidence that an environment has. The last column is true if the artifact of any version may be
-- known.
SELECT e.with_parts,
    EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND scope IN ('lane', 'deployment') AND position <= $2),
    EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND scope = 'environment' AND position <= $2),
    EXISTS (SELECT FROM check_starts WHERE (environment_id = $1 OR run IS NOT NULL) AND position <= $2),
    EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND artifact IS NOT NULL AND position <= $2)
        OR EXISTS (SELECT FROM verdicts WHERE environment_id IS NULL AND artifact IS NOT NULL AND position <= $2),
    EXISTS (SELECT FROM builds) OR EXISTS (SELECT FROM environments WHERE with_parts)
FROM environments e WHERE e.environment_id = $1
