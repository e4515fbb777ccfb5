DELETE FROM _set_aside WHERE name = $1
