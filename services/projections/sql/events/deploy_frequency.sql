-- Counts the deploys that occurred from $2 on and before $3 (null: without an end), by the first day of the day, week or
-- month ($1, UTC) in which they occurred, environment and service: those of these environments ($4) and services ($5); an
-- empty list stands for all. Leaves out repeated entries and those that were corrected: their corrections count. A deploy
-- that carries the id of a rollback is a step of it. Reads the entries of the time by `events_occurred`, or only the
-- deploys by `events_kind`, and joins corrections and reports of rollbacks by position.
SELECT period, environment, service,
    count(*) FILTER (WHERE succeeded) AS deploys,
    count(*) FILTER (WHERE NOT succeeded) AS failed,
    count(*) FILTER (WHERE succeeded AND is_step) AS rollback_steps
FROM (
    SELECT date_trunc($1::text, e.occurred_at AT TIME ZONE 'UTC')::date AS period, e.environment, e.service,
        e.kind = 'deploy.succeeded' AS succeeded,
        EXISTS (SELECT FROM rollback_reports r WHERE r.position = e.position) AS is_step
    FROM events e
    WHERE e.occurred_at >= $2 AND e.occurred_at < coalesce($3::timestamptz, 'infinity')
        AND hashtext(e.kind) IN (hashtext('deploy.succeeded'), hashtext('deploy.failed'))
        AND e.kind IN ('deploy.succeeded', 'deploy.failed') AND e.repeats IS NULL
        AND (cardinality($4::text[]) = 0 OR e.environment = ANY($4))
        AND (cardinality($5::text[]) = 0 OR e.service = ANY($5))
        AND NOT EXISTS (SELECT FROM corrections c WHERE c.position = e.position)
) deploys
GROUP BY period, environment, service
ORDER BY period, environment, service
