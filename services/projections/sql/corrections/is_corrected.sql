SELECT EXISTS (SELECT FROM corrections WHERE position = $1)
