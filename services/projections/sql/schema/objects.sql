-- The objects of the current schema with their definitions, without the schema's name. Names that start with `_` belong
-- to the migrator and to rebuilds.
WITH own AS (
    SELECT oid, quote_ident(nspname) || '.' AS prefix FROM pg_namespace WHERE nspname = current_schema()
), relations AS (
    SELECT c.* FROM pg_class c JOIN own ON c.relnamespace = own.oid
    WHERE c.relname NOT LIKE '\_%' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), objects AS (
    SELECT 'relation' AS kind, relname::text AS name,
        concat_ws(' ', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'sequence' END,
            CASE relpersistence WHEN 'p' THEN NULL WHEN 'u' THEN 'unlogged' ELSE 'temporary' END,
            reloptions::text, CASE WHEN relrowsecurity THEN 'with row security' END,
            CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END) AS definition
    FROM relations
    UNION ALL
    SELECT 'inheritance', r.relname || '.' || i.inhrelid::regclass::text, 'inherits from ' || i.inhparent::regclass::text
    FROM pg_inherits i JOIN relations r ON r.oid IN (i.inhparent, i.inhrelid)
    UNION ALL
    SELECT 'column', r.relname || '.' || a.attname,
        concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
            'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), nullif(a.attgenerated, ''), nullif(a.attidentity, ''),
            CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation::text END)
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT 'constraint', r.relname || '.' || c.conname,
        concat_ws(' ', pg_get_constraintdef(c.oid), CASE WHEN NOT c.convalidated THEN 'NOT VALID' END)
    FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid
    -- Later versions of Postgres list NOT NULL here too; it is part of the column.
    WHERE c.contype <> 'n'
    UNION ALL
    SELECT 'index', i.relname::text,
        concat_ws(' ', pg_get_indexdef(x.indexrelid), i.reloptions::text,
            CASE WHEN NOT (x.indisvalid AND x.indisready AND x.indislive) THEN 'INVALID' END)
    FROM relations r JOIN pg_index x ON x.indrelid = r.oid JOIN pg_class i ON i.oid = x.indexrelid
    UNION ALL
    SELECT 'trigger', r.relname || '.' || t.tgname,
        concat_ws(' ', pg_get_triggerdef(t.oid), 'enabled ' || t.tgenabled::text)
    FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'rule', r.relname || '.' || w.rulename,
        concat_ws(' ', pg_get_ruledef(w.oid), 'enabled ' || w.ev_enabled::text)
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT 'policy', r.relname || '.' || p.polname,
        concat_ws(' ', p.polcmd, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT 'function', f.oid::regprocedure::text, f.prosrc FROM pg_proc f JOIN own ON f.pronamespace = own.oid
)
SELECT kind, replace(name, own.prefix, ''), replace(definition, own.prefix, '') FROM objects CROSS JOIN own ORDER BY 1, 2
