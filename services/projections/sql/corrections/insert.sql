INSERT INTO corrections (position, corrected_position, named) VALUES ($1, $2, $3)
ON CONFLICT (position, corrected_position) DO UPDATE SET named = corrections.named OR excluded.named
