SELECT e.name, i.service, i.target FROM irregular_lanes i
JOIN environments e USING (environment_id)
