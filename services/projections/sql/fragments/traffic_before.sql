-- Joins `x`, the last change of traffic before moment `at` that has an effect, as known now. `x.slot_track` is the
-- track of the slot that it switches to. The traffic is track `traffic`, of the lane of event `e`.
--
-- A switch has no effect if its slot was empty, or had no change and still waited for its first deploy. `retired.since`
-- is the end of the last retirement of the environment up to the moment; infinity while it is retired.
LEFT JOIN LATERAL (
    SELECT coalesce((
        SELECT min(y.occurred_at) FROM retirements y
        WHERE y.environment_id = traffic.environment_id AND NOT y.retires AND y.occurred_at <= at.occurred_at
            AND (y.occurred_at, y.position) > (r.occurred_at, r.position)
    ), 'infinity') AS since
    FROM retirements r
    WHERE r.environment_id = traffic.environment_id AND r.retires AND r.occurred_at <= at.occurred_at
    ORDER BY r.occurred_at DESC, r.position DESC LIMIT 1
) retired ON true
CROSS JOIN LATERAL (
    SELECT x.*, o.track_id AS slot_track FROM (
        SELECT x.* FROM lane_changes x
        WHERE x.track_id = traffic.track_id AND x.corrected_position IS NULL
            AND (x.occurred_at, x.position) < (at.occurred_at, at.position)
            AND x.occurred_at >= coalesce(retired.since, '-infinity')
        ORDER BY x.occurred_at DESC, x.position DESC LIMIT 100
    ) x
    LEFT JOIN LATERAL (
        SELECT o.track_id FROM tracks o
        WHERE o.environment_id = traffic.environment_id AND o.service = e.service AND o.target = e.target
            AND o.slot = x.switched_to LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT b.version, b.occurred_at, b.position FROM lane_changes b
        WHERE b.track_id = o.track_id AND b.corrected_position IS NULL
            AND (b.occurred_at, b.position) < (x.occurred_at, x.position)
            AND b.occurred_at >= coalesce(retired.since, '-infinity')
        ORDER BY b.occurred_at DESC, b.position DESC LIMIT 1
    ) b ON true
    WHERE x.switched_to IS NULL
        OR b.version IS NOT NULL AND NOT EXISTS (
            SELECT FROM lane_changes r
            WHERE r.track_id = x.track_id AND r.version IS NULL AND r.switched_to IS NULL
                AND r.corrected_position IS NULL
                AND (r.occurred_at, r.position) > (b.occurred_at, b.position)
                AND (r.occurred_at, r.position) < (x.occurred_at, x.position)
        )
        OR b.position IS NULL AND (
            SELECT true FROM lane_changes y
            WHERE y.track_id = o.track_id AND y.version IS NOT NULL AND y.corrected_position IS NULL
                AND (y.occurred_at, y.position) > (x.occurred_at, x.position)
                AND (y.occurred_at, y.position) < (at.occurred_at, at.position)
            ORDER BY y.occurred_at, y.position LIMIT 1
        )
    ORDER BY x.occurred_at DESC, x.position DESC LIMIT 1
) x
