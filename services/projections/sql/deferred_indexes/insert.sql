INSERT INTO _set_aside (name, definition) VALUES ($1, $2)
