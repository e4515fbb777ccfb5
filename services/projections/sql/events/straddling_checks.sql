-- Selects those events that end a check during which its subject changed: between the start of the check, as known at
-- `$2`, and its end. The tracks decide, so the result may differ from what counts for a lane that was removed or switched
-- to an empty slot during the check.
SELECT e.position FROM events e
CROSS JOIN LATERAL (
    SELECT CASE WHEN v.scope IN ('release', 'deployment') THEN (
        SELECT bool_or(t.at_start OR t.at_end) AND NOT bool_or(t.throughout) FROM (
            SELECT a.stands AS at_start, b.stands AS at_end,
                a.stands AND a.position = b.position AS throughout
            FROM tracks t
            -- The last change of track `t` before the start of the check and before its end, and whether it put the
            -- release or the deployment that the check names on the track.
            LEFT JOIN LATERAL (
                SELECT c.position, CASE v.scope
                        WHEN 'release'
                        THEN c.version = convert_from(e.bytes, 'UTF8')::jsonb #>> '{data,release,version}'
                        ELSE c.deployment = convert_from(e.bytes, 'UTF8')::jsonb #>> '{data,deployment}'
                    END AS stands
                FROM lane_changes c
                WHERE c.track_id = t.track_id AND c.occurred_at <= s.occurred_at AND c.corrected_position IS NULL
                ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
            ) a ON true
            LEFT JOIN LATERAL (
                SELECT c.position, CASE v.scope
                        WHEN 'release'
                        THEN c.version = convert_from(e.bytes, 'UTF8')::jsonb #>> '{data,release,version}'
                        ELSE c.deployment = convert_from(e.bytes, 'UTF8')::jsonb #>> '{data,deployment}'
                    END AS stands
                FROM lane_changes c
                WHERE c.track_id = t.track_id AND c.occurred_at <= v.occurred_at AND c.corrected_position IS NULL
                ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
            ) b ON true
            WHERE t.environment_id = v.environment_id AND t.service = e.service
                AND (e.target IS NULL OR t.target = e.target)
            -- Traffic may be switched from one track of the release to another.
            UNION ALL
            SELECT l.version = v.version, false, l.version = v.version AND NOT EXISTS (
                SELECT FROM live_changes n
                WHERE n.environment_id = v.environment_id AND n.service = e.service AND n.target = t.target
                    AND n.occurred_at > s.occurred_at AND n.occurred_at <= v.occurred_at
                    AND n.version IS DISTINCT FROM v.version
            )
            FROM tracks t CROSS JOIN LATERAL (
                SELECT l.version FROM live_changes l
                WHERE l.environment_id = v.environment_id AND l.service = e.service AND l.target = t.target
                    AND l.occurred_at <= s.occurred_at
                ORDER BY l.number DESC LIMIT 1
            ) l
            WHERE v.scope = 'release' AND t.environment_id = v.environment_id AND t.service = e.service
                AND (e.target IS NULL OR t.target = e.target) AND t.slot IS NULL
        ) t
    ) ELSE EXISTS (
        SELECT FROM live_changes l
        WHERE l.environment_id = v.environment_id AND l.occurred_at > s.occurred_at
            AND l.occurred_at <= v.occurred_at
            AND (e.service IS NULL OR l.service = e.service) AND (e.target IS NULL OR l.target = e.target)
            -- A redeploy of the same release changes nothing.
            AND CASE WHEN e.service IS NULL THEN l.composition IS DISTINCT FROM (
                SELECT p.composition FROM live_changes p
                WHERE p.environment_id = l.environment_id AND p.number = l.number - 1 LIMIT 1
            ) ELSE NOT EXISTS (
                SELECT FROM (
                    SELECT p.version, p.artifact_key, p.config, p.infrastructure, p.commit FROM live_changes p
                    WHERE p.environment_id = l.environment_id AND p.service = l.service AND p.target = l.target
                        AND p.number < l.number
                    ORDER BY p.number DESC LIMIT 1
                ) p
                WHERE (p.version, p.artifact_key, p.config, p.infrastructure, p.commit)
                    IS NOT DISTINCT FROM (l.version, l.artifact_key, l.config, l.infrastructure, l.commit)
            ) END
    ) END AS holds
    FROM verdicts v CROSS JOIN (SELECT NULL) one
    -- include fragments/check_start.sql
    WHERE e.kind IN ('validation.passed', 'validation.failed') AND v.position = e.position
        AND v.environment_id IS NOT NULL AND s.occurred_at IS NOT NULL
    LIMIT 1
) straddle
WHERE e.position = ANY($1) AND straddle.holds
