SELECT position FROM projection
