SELECT identity, position FROM corrections_ahead
