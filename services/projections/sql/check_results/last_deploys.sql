-- Selects, for releases that state no artifact, the time of the last deploy of each to its lane.
SELECT r.index, max(c.occurred_at)
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY
    r (service, target, version, config, infrastructure, commit, index)
JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target
JOIN lane_changes c ON c.track_id = t.track_id AND c.version = r.version AND c.position <= $8
    AND (c.corrected_position IS NULL OR c.corrected_position > $8)
WHERE c.artifact IS NULL
    AND (c.config, c.infrastructure, c.commit) IS NOT DISTINCT FROM (r.config, r.infrastructure, r.commit)
GROUP BY r.index
