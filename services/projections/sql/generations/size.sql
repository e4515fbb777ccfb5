-- Bytes of all tables of a schema with their indexes; null if it has no tables.
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'
    AND EXISTS (SELECT FROM pg_class p WHERE p.relnamespace = n.oid AND p.relname = 'projection')
