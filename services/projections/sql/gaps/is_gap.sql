SELECT FROM gaps WHERE position = $1
