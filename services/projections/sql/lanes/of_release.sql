-- Selects the lanes one of whose changes in effect may name a release, each with the versions that may: by one of its
-- versions ($1), or by what another deploy of this version of the service states: the first characters of the commit
-- ($2 up to $3) or a shortened commit ($4), the first characters of the artifact's identity ($5 up to $6, $7 up to $8),
-- its keys ($9), or the package URL without a checksum ($10).
WITH named AS (
    SELECT track_id, version FROM lane_changes
    WHERE lower(commit) ~>=~ $2 AND lower(commit) ~<~ $3 AND corrected_position IS NULL
    UNION
    SELECT track_id, version FROM lane_changes WHERE lower(commit) = ANY($4) AND corrected_position IS NULL
    UNION
    SELECT track_id, version FROM lane_changes
    WHERE artifact_key ~>=~ $5 AND artifact_key ~<~ $6 AND corrected_position IS NULL
    UNION
    SELECT track_id, version FROM lane_changes
    WHERE artifact_key ~>=~ $7 AND artifact_key ~<~ $8 AND corrected_position IS NULL
    UNION
    SELECT track_id, version FROM lane_changes WHERE artifact_key = ANY($9) AND corrected_position IS NULL
    UNION
    SELECT track_id, version FROM lane_changes WHERE package_key = $10 AND corrected_position IS NULL
), versions AS (
    SELECT t.service, n.version FROM named n JOIN tracks t USING (track_id)
    UNION
    SELECT NULL, unnest($1::text[])
)
SELECT DISTINCT e.name, t.service, t.target, f.version FROM (
    SELECT track_id, version FROM named
    UNION
    SELECT c.track_id, c.version FROM tracks t JOIN versions v ON v.service = t.service OR v.service IS NULL
    CROSS JOIN LATERAL (
        SELECT c.track_id, c.version FROM lane_changes c
        WHERE c.track_id = t.track_id AND c.version = v.version AND c.corrected_position IS NULL LIMIT 1
    ) c
) f
JOIN tracks t USING (track_id) JOIN environments e USING (environment_id)
ORDER BY 1, 2, 3, 4
