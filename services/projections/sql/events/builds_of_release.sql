-- Selects the latest builds of artifacts: by the first characters of the commit ($1 up to $2) or a shortened commit
-- ($3), by the first characters of the artifact's identity ($4 up to $5, $6 up to $7), or by its keys ($8) or the package
-- URL without a checksum ($9).
WITH found AS (
    SELECT position FROM events
    WHERE lower(commit) ~>=~ $1 AND lower(commit) ~<~ $2 AND kind = 'artifact.built'
    UNION
    SELECT position FROM events WHERE lower(commit) = ANY($3) AND kind = 'artifact.built'
    UNION
    SELECT position FROM events WHERE artifact_key ~>=~ $4 AND artifact_key ~<~ $5 AND kind = 'artifact.built'
    UNION
    SELECT position FROM events WHERE artifact_key ~>=~ $6 AND artifact_key ~<~ $7 AND kind = 'artifact.built'
    UNION
    SELECT position FROM events WHERE artifact_key = ANY($8) AND kind = 'artifact.built'
    UNION
    SELECT position FROM events WHERE package_key = $9 AND kind = 'artifact.built'
)
SELECT e.position, e.bytes FROM found f
CROSS JOIN LATERAL (
    SELECT position, bytes FROM events WHERE position = f.position AND repeats IS NULL LIMIT 1
) e
ORDER BY e.position DESC LIMIT 1000
