SELECT freeze_id, ends_at, started FROM freezes
WHERE environment_id = $1 AND
-- include fragments/freeze_holds.sql
ORDER BY started
