SELECT s.created_position, s.settings_position, s.disabled_position, s.delivered_position, e.recorded_at, e.bytes,
    d.bytes AS disabling
FROM subscriptions s
JOIN events e ON e.position = s.settings_position
LEFT JOIN events d ON d.position = s.disabled_position
WHERE s.name = $1
