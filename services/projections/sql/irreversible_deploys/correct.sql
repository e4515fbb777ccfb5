UPDATE irreversible_deploys SET corrected_position = $2 WHERE position = $1
