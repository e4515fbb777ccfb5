SELECT r.phase, r.recorded_at, r.requested, r.started, r.ended, e.bytes, f.bytes AS end_bytes
FROM rollbacks r
JOIN events e ON e.position = r.requested
LEFT JOIN events f ON f.position = r.ended
WHERE r.rollback_id = $1
