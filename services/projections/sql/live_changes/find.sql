-- Selects the lanes on which a release ever went live, by the equal version ($1), the first characters of the commit
-- ($2 up to $3) or of the artifact's identity ($4 up to $5, $6 up to $7), or the artifact's keys ($8): one row per
-- lane and version, with the first and the last time at which it went live, and what replaced it since.
WITH found AS (
    SELECT c.environment_id, c.service, c.target, c.version, c.number, c.position
    FROM (SELECT DISTINCT environment_id, service, target FROM tracks) l
    CROSS JOIN LATERAL (
        SELECT * FROM live_changes v
        WHERE v.environment_id = l.environment_id AND v.service = l.service AND v.target = l.target
            AND v.version = $1
    ) c
    UNION
    SELECT environment_id, service, target, version, number, position FROM live_changes
    WHERE commit ~>=~ $2 AND commit ~<~ $3
    UNION
    SELECT environment_id, service, target, version, number, position FROM live_changes
    WHERE artifact_key ~>=~ $4 AND artifact_key ~<~ $5
    UNION
    SELECT environment_id, service, target, version, number, position FROM live_changes
    WHERE artifact_key ~>=~ $6 AND artifact_key ~<~ $7
    UNION
    SELECT environment_id, service, target, version, number, position FROM live_changes
    WHERE artifact_key = ANY($8)
), runs AS (
    SELECT f.environment_id, f.service, f.target, f.version, min(f.number) AS first, max(f.number) AS last
    FROM found f
    WHERE f.version IS NOT NULL AND NOT EXISTS (SELECT FROM corrections k WHERE k.position = f.position)
    GROUP BY 1, 2, 3, 4
)
SELECT e.name AS environment, r.service, r.target, r.version, l.artifact, l.commit,
    a.occurred_at AS first_at, a.position AS first_position, l.occurred_at AS last_at, l.position AS last_position,
    n.occurred_at AS until_at, n.position AS until_position
FROM runs r
JOIN environments e USING (environment_id)
JOIN live_changes a ON a.environment_id = r.environment_id AND a.number = r.first
    AND a.service = r.service AND a.target = r.target
JOIN live_changes l ON l.environment_id = r.environment_id AND l.number = r.last
    AND l.service = r.service AND l.target = r.target
LEFT JOIN LATERAL (
    SELECT c.occurred_at, c.position FROM live_changes c
    WHERE c.environment_id = r.environment_id AND c.service = r.service AND c.target = r.target
        AND c.number > r.last
    ORDER BY c.number LIMIT 1
) n ON true
ORDER BY e.name, r.service, r.target, a.position, r.version
LIMIT $9 OFFSET $10
