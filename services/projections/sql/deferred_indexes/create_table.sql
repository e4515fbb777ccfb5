CREATE TABLE _set_aside (name text NOT NULL PRIMARY KEY, definition text NOT NULL)
