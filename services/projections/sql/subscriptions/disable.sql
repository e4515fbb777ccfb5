-- Disables a subscription, unless its settings were replaced since the deliveries that failed.
UPDATE subscriptions SET disabled_position = $3, delivered_position = $4 WHERE name = $1 AND settings_position = $2
