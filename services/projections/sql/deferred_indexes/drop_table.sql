DROP TABLE _set_aside
