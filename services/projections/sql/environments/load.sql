SELECT environment_id, name, first_position, changes, with_parts, last_change_at FROM environments
