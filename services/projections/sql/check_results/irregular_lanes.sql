SELECT service, target FROM irregular_lanes WHERE environment_id = $1 AND position <= $2
