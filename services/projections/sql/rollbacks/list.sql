SELECT r.phase, r.recorded_at, r.requested, r.started, r.ended, e.bytes, f.bytes AS end_bytes
FROM rollbacks r
JOIN events e ON e.position = r.requested
LEFT JOIN events f ON f.position = r.ended
JOIN environments n USING (environment_id)
WHERE r.requested < $1 AND ($2::text IS NULL OR n.name = $2) AND ($3::text[] IS NULL OR r.phase = ANY($3))
ORDER BY r.requested DESC LIMIT $4
