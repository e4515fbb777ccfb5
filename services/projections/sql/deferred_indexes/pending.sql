SELECT name, definition FROM _set_aside ORDER BY name
