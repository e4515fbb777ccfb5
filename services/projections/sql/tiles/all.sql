SELECT level, index, hashes FROM tiles ORDER BY level, index
