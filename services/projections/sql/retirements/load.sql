SELECT environment_id, occurred_at, position, retires FROM retirements
