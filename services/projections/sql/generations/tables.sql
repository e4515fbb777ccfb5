-- The tables of the projections. Names that start with `_` belong to the migrator and to rebuilds.
SELECT table_name::text FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name NOT LIKE '\_%' ORDER BY 1
