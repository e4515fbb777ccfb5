-- Selects the first composition change that occurred after a time. Late reports are out of time order, so the query
-- cannot skip any change.
SELECT min(number) FROM live_changes WHERE environment_id = $1 AND occurred_at > $2
