-- Creates a subscription, or replaces the settings of the one with this name and enables it.
INSERT INTO subscriptions (name, created_position, settings_position) VALUES ($1, $2, $2)
ON CONFLICT (name) DO UPDATE SET settings_position = excluded.settings_position, disabled_position = NULL
