-- Selects the number of the change since which a lane runs what it runs at a change.
SELECT max(number) FROM live_changes
WHERE environment_id = $1 AND service = $2 AND target = $3 AND number <= $4
