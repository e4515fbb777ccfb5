-- Selects true if an entry after a position names one of the environments, or none, belongs to a rollback, corrects an
-- event (the environment of the corrected event is not looked up), or, with $3, deploys one of these services anywhere: a
-- version may mean the artifact that was deployed in another environment. Incidents and activities decide nothing.
SELECT EXISTS (SELECT FROM corrections WHERE corrected_position > $1)
    OR EXISTS (SELECT FROM corrections_ahead WHERE position > $1)
    OR EXISTS (
    SELECT FROM events
    WHERE position > $1 AND kind NOT LIKE 'incident.%' AND kind NOT LIKE 'activity.%' AND (
        environment IS NULL OR environment = ANY($2::text[]) OR kind LIKE 'rollback.%'
        OR kind = 'deploy.succeeded' AND service = ANY($3::text[])
    )
)
