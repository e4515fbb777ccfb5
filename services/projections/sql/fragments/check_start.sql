-- Joins the start of end `v`, as known at `$2`: the last start of the same run and check; for an end without a run, the
-- last start of the same subject and check, unless another end of them lies in between.
LEFT JOIN LATERAL (
    SELECT s.occurred_at FROM (
        (SELECT s.occurred_at, s.position FROM check_starts s
        WHERE v.run IS NOT NULL AND s.run = v.run AND s.check_name = v.check_name
            AND (s.occurred_at, s.position) <= (v.occurred_at, v.position) AND s.position <= $2
            AND (s.corrected_position IS NULL OR s.corrected_position > $2)
        ORDER BY s.occurred_at DESC, s.position DESC LIMIT 1)
        UNION ALL
        (SELECT s.occurred_at, s.position FROM check_starts s
        WHERE v.run IS NULL AND s.run IS NULL AND s.subject = v.subject AND s.check_name = v.check_name
            AND (s.occurred_at, s.position) <= (v.occurred_at, v.position) AND s.position <= $2
            AND (s.corrected_position IS NULL OR s.corrected_position > $2)
        ORDER BY s.occurred_at DESC, s.position DESC LIMIT 1)
    ) s
    WHERE v.run IS NOT NULL OR NOT EXISTS (
        SELECT FROM verdicts o WHERE o.subject = v.subject AND o.check_name = v.check_name
            AND (o.occurred_at, o.position) > (s.occurred_at, s.position)
            AND (o.occurred_at, o.position) < (v.occurred_at, v.position) AND o.position <= $2
            AND (o.corrected_position IS NULL OR o.corrected_position > $2)
    )
) s ON true
