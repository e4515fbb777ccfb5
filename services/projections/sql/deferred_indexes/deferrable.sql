SELECT indexname::text, indexdef FROM pg_indexes i
WHERE schemaname = current_schema() AND indexname <> $1
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname
        AND c.connamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))
ORDER BY indexname
