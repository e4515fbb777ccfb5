SELECT source, max_ahead, last_ahead, last_position, events FROM clock_skews
ORDER BY max_ahead DESC, source LIMIT $1
