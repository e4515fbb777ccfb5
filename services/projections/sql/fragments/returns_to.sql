-- Selects the position of the change by which the lane of event `e` last started to run the release that goes live by
-- `e`, before its present run, by what ran when, as known now. A run starts with a deploy of the release, or with a
-- switch to a slot that holds it, before which traffic reached something else. Of each track, examines the last 100
-- deploys of the version, and the last 20 of the release among them; of traffic, the last 100 changes after each deploy
-- to a slot and before each start, and those before and the next 100 after a deploy that waits for a switch.
SELECT starts.position
-- The change `m` that the event made, at the moment from which it counts, and the track that holds the release from
-- there on.
FROM (
    SELECT n.environment_id, coalesce(f.occurred_at, m.occurred_at) AS occurred_at,
        coalesce(f.position, m.position) AS position, h.track_id
    FROM environments n
    JOIN live_changes c ON c.environment_id = n.environment_id AND c.service = e.service AND c.target = e.target
        AND c.version = e.went_live AND c.position = e.position
    JOIN tracks w ON w.environment_id = n.environment_id AND w.service = e.service AND w.target = e.target
    JOIN lane_changes m ON m.track_id = w.track_id AND m.occurred_at = e.occurred_at AND m.position = e.position
        AND m.corrected_position IS NULL
    JOIN tracks h ON h.environment_id = n.environment_id AND h.service = e.service AND h.target = e.target
        AND h.slot IS NOT DISTINCT FROM coalesce(m.switched_to, w.slot)
    JOIN tracks traffic ON traffic.environment_id = n.environment_id AND traffic.service = e.service
        AND traffic.target = e.target AND traffic.slot IS NULL
    -- A deploy to a slot that traffic does not reach at its moment counts from the first switch to the slot, unless the
    -- slot has another change before that, or the lane is removed.
    LEFT JOIN LATERAL (
        SELECT f.* FROM (
            SELECT f.* FROM lane_changes f
            WHERE w.slot IS NOT NULL AND f.track_id = traffic.track_id AND f.corrected_position IS NULL
                AND (f.occurred_at, f.position) > (m.occurred_at, m.position)
            ORDER BY f.occurred_at, f.position LIMIT 100
        ) f
        WHERE f.switched_to = w.slot OR f.version IS NULL AND f.switched_to IS NULL
        ORDER BY f.occurred_at, f.position LIMIT 1
    ) f ON f.switched_to IS NOT NULL
        AND coalesce((
            SELECT (u.occurred_at, u.position) > (f.occurred_at, f.position) FROM lane_changes u
            WHERE u.track_id = w.track_id AND u.corrected_position IS NULL
                AND (u.occurred_at, u.position) > (m.occurred_at, m.position)
            ORDER BY u.occurred_at, u.position LIMIT 1
        ), true)
        AND w.slot IS DISTINCT FROM (
            -- The moment right after the event.
            SELECT x.switched_to FROM (SELECT m.occurred_at, m.position + 1 AS position) at
            -- include fragments/traffic_before.sql
        )
    -- The event changed what the lane runs: the release before it is another one, by artifact identity. A deploy counts
    -- only if it states what went live: another deploy of the same version may hide a late one.
    WHERE n.name = e.environment AND NOT coalesce((
        SELECT (p.version, p.artifact_key, p.config, p.infrastructure, p.commit)
            IS NOT DISTINCT FROM (c.version, c.artifact_key, c.config, c.infrastructure, c.commit)
        FROM live_changes p
        WHERE p.environment_id = c.environment_id AND p.service = c.service AND p.target = c.target
            AND p.number < c.number
        ORDER BY p.number DESC LIMIT 1
    ), false) AND (m.version IS NULL OR (m.artifact, m.config, m.infrastructure, m.commit)
        IS NOT DISTINCT FROM (c.artifact, c.config, c.infrastructure, c.commit))
    LIMIT 1
) m
-- The deploy of the release.
CROSS JOIN LATERAL (
    SELECT d.* FROM lane_changes d
    WHERE d.track_id = m.track_id AND d.corrected_position IS NULL
        AND (d.occurred_at, d.position) <= (m.occurred_at, m.position)
    ORDER BY d.occurred_at DESC, d.position DESC LIMIT 1
) d
CROSS JOIN LATERAL (
    SELECT t.environment_id, t.track_id FROM tracks t
    WHERE t.environment_id = m.environment_id AND t.service = e.service AND t.target = e.target
        AND t.slot IS NULL LIMIT 1
) traffic
CROSS JOIN LATERAL (
    -- Rows: the event first, then the starts of earlier runs, latest first. If the lane ran the release before the
    -- event already, the row after the event is the start of the present run; the earlier run is the one after that.
    SELECT ran.is_made, lead(s.position, CASE WHEN ran.before THEN 2 ELSE 1 END)
        OVER (ORDER BY s.occurred_at DESC, s.position DESC) AS position
    FROM (
        WITH deploys AS MATERIALIZED (
            SELECT t.slot, b.occurred_at, b.position,
                coalesce(u.occurred_at, m.occurred_at) AS until_at, coalesce(u.position, m.position) AS until_position
            FROM tracks t
            CROSS JOIN LATERAL (
                SELECT b.* FROM (
                    SELECT b.* FROM lane_changes b
                    WHERE b.track_id = t.track_id AND b.version = d.version AND b.corrected_position IS NULL
                        AND (b.occurred_at, b.position) < (m.occurred_at, m.position)
                    ORDER BY b.occurred_at DESC, b.position DESC LIMIT 100
                ) b
                WHERE (b.config, b.infrastructure, b.commit)
                        IS NOT DISTINCT FROM (d.config, d.infrastructure, d.commit)
                    AND (b.artifact_key IS NOT DISTINCT FROM d.artifact_key OR b.artifact_key = d.package_key
                        OR b.package_key = d.artifact_key)
                LIMIT 20
            ) b
            LEFT JOIN LATERAL (
                SELECT u.occurred_at, u.position FROM lane_changes u
                WHERE t.slot IS NOT NULL AND u.track_id = t.track_id AND u.corrected_position IS NULL
                    AND (u.occurred_at, u.position) > (b.occurred_at, b.position)
                    AND (u.occurred_at, u.position) < (m.occurred_at, m.position)
                ORDER BY u.occurred_at, u.position LIMIT 1
            ) u ON true
            WHERE t.environment_id = m.environment_id AND t.service = e.service AND t.target = e.target
        )
        SELECT occurred_at, position FROM deploys
        UNION
        SELECT s.occurred_at, s.position FROM deploys b CROSS JOIN LATERAL (
            SELECT s.* FROM lane_changes s
            WHERE b.slot IS NOT NULL AND s.track_id = traffic.track_id AND s.corrected_position IS NULL
                AND (s.occurred_at, s.position) > (b.occurred_at, b.position)
                AND (s.occurred_at, s.position) < (b.until_at, b.until_position)
            ORDER BY s.occurred_at DESC, s.position DESC LIMIT 100
        ) s
        WHERE s.switched_to = b.slot
        UNION
        SELECT m.occurred_at, m.position
        ORDER BY 1 DESC, 2 DESC
    ) s
    CROSS JOIN LATERAL (
        -- is_made: the event has an effect, as known now. after, before: the release runs right after, right before the
        -- moment.
        SELECT coalesce(bool_or(l.is_same AND m.position IN (x.position, y.position)) FILTER (WHERE at.is_after),
                false) AS is_made,
            coalesce(bool_or(l.is_same) FILTER (WHERE at.is_after), false) AS after,
            coalesce(bool_or(l.is_same) FILTER (WHERE NOT at.is_after), false) AS before
        FROM (
            SELECT s.occurred_at, s.position + k AS position, k = 1 AS is_after FROM (VALUES (0), (1)) k (k)
        ) at
        -- include fragments/traffic_before.sql
        -- The deploy of what traffic reaches: nothing if the slot or the lane was removed since.
        LEFT JOIN LATERAL (
            SELECT y.* FROM lane_changes y
            WHERE y.track_id = coalesce(x.slot_track, x.track_id) AND y.corrected_position IS NULL
                AND (y.occurred_at, y.position) < (at.occurred_at, at.position)
                AND (x.slot_track IS NOT NULL OR y.position = x.position)
                AND y.occurred_at >= coalesce(retired.since, '-infinity')
            ORDER BY y.occurred_at DESC, y.position DESC LIMIT 1
        ) y ON true
        CROSS JOIN LATERAL (
            SELECT (y.version, y.config, y.infrastructure, y.commit)
                    IS NOT DISTINCT FROM (d.version, d.config, d.infrastructure, d.commit)
                AND (y.artifact_key IS NOT DISTINCT FROM d.artifact_key OR y.artifact_key = d.package_key
                    OR y.package_key = d.artifact_key)
                AND NOT EXISTS (
                    SELECT FROM lane_changes r
                    WHERE r.track_id = x.track_id AND r.version IS NULL AND r.switched_to IS NULL
                        AND r.corrected_position IS NULL
                        AND (r.occurred_at, r.position) > (y.occurred_at, y.position)
                        AND (r.occurred_at, r.position) < (at.occurred_at, at.position)
                ) AS is_same
        ) l
    ) ran
    WHERE ran.after AND NOT ran.before OR s.position = m.position
    ORDER BY s.occurred_at DESC, s.position DESC
    LIMIT 1
) starts
WHERE d.version = e.went_live AND starts.is_made LIMIT 1
