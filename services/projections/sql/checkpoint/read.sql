SELECT position, stream_created, leaf_hash, root FROM projection
