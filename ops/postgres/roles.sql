-- The roles of a Postgres for ledgers, and what each may do. An administrator runs this with psql, as a superuser:
--
--   POSTGRES_SERVICE_PASSWORD=… POSTGRES_READER_PASSWORD=… psql --no-psqlrc --dbname URL --file ops/postgres/roles.sql
--
-- Passwords come from the environment, as text or as SCRAM verifiers. URL names any database of the server. The database
-- of the ledger is `ledger`; `--set database=NAME` names another. It is created if it is missing. An existing one keeps
-- its projections, which become those of the service's role: stop the service before.
--
-- Use the server for ledgers only. By default, Postgres lets every role connect to every database. This file ends that
-- for the databases of the ledger, `postgres` and `template1`, and stops before any change if there is another one.
--
-- Run it again to restore what it states. It removes no data.

\set ON_ERROR_STOP on
\if :{?database} \else \set database ledger \endif
\getenv service_password POSTGRES_SERVICE_PASSWORD
\getenv reader_password POSTGRES_READER_PASSWORD
\set has_passwords false
\if :{?service_password}
\if :{?reader_password}
\set has_passwords true
\endif
\endif
\if :has_passwords
\else
DO $$ BEGIN RAISE 'set POSTGRES_SERVICE_PASSWORD and POSTGRES_READER_PASSWORD in the environment'; END $$;
\endif

SELECT set_config('ledger.database', :'database', false) \g /dev/null
DO $$
DECLARE others text;
BEGIN
    SELECT string_agg(quote_ident(d.datname), ', ' ORDER BY d.datname) INTO others
    FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT' AND d.datallowconn
        AND d.datname NOT IN ('postgres', 'template1', current_setting('ledger.database'));
    IF others IS NOT NULL THEN
        RAISE 'PUBLIC may connect to %', others USING
            HINT = 'Use a server for ledgers only, or run REVOKE CONNECT, TEMPORARY ON DATABASE … FROM PUBLIC.';
    END IF;
END $$;

BEGIN;
-- The statements contain passwords: the server neither logs nor counts them.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL pg_stat_statements.track_utility = off;
SET LOCAL password_encryption = 'scram-sha-256';
SELECT format('CREATE ROLE %I', missing.name) FROM unnest(ARRAY['ledger_service', 'ledger_reader']) AS missing (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = missing.name) \gexec
-- The service: `release-ledger serve`, and the commands that use its settings.
ALTER ROLE ledger_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    PASSWORD :'service_password';
-- People and dashboards. The role can change its own password and the defaults below, for a session or for good; this
-- file restores them. The rights further down are what binds it.
ALTER ROLE ledger_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 20
    PASSWORD :'reader_password';
ALTER ROLE ledger_reader RESET ALL;
ALTER ROLE ledger_reader SET default_transaction_read_only = on;
ALTER ROLE ledger_reader SET statement_timeout = '30s';
-- An open transaction keeps the service from dropping replaced generations, and Postgres from removing dead rows.
ALTER ROLE ledger_reader SET idle_in_transaction_session_timeout = '30s';
COMMIT;

SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING ''UTF8''', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
-- The service creates a schema for each generation, and does not own the database: it cannot rename or drop it.
BEGIN;
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC, ledger_service, ledger_reader', datname) FROM pg_database
WHERE datname IN ('postgres', 'template1', :'database') \gexec
GRANT CONNECT, CREATE ON DATABASE :"database" TO ledger_service;
GRANT CONNECT ON DATABASE :"database" TO ledger_reader;
COMMIT;

\connect :database
BEGIN;
REVOKE ALL ON SCHEMA public FROM PUBLIC, ledger_service, ledger_reader;

-- Every role may call these functions, without a right to any table: large objects and messages in the write-ahead log
-- fill the disk, and an advisory lock keeps the service from starting. The service takes one while it creates tables.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname ~ '^(lo_.*|loread|lowrite|pg_(try_)?advisory_.*|pg_logical_emit_message)$' \gexec
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint), pg_advisory_unlock(bigint) TO ledger_service;

-- The projections of a service that had another role.
CREATE TEMPORARY VIEW ledger_schemas AS
SELECT oid, nspname, nspowner FROM pg_namespace
WHERE nspname = 'release_ledger' OR nspname ~ '^ledger_.+_v[0-9]+_[0-9]+$';
SELECT format('ALTER TABLE %I.%I OWNER TO ledger_service', s.nspname, c.relname)
FROM pg_class c JOIN ledger_schemas s ON s.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relowner <> 'ledger_service'::regrole \gexec
SELECT format('ALTER SCHEMA %I OWNER TO ledger_service', nspname) FROM ledger_schemas
WHERE nspowner <> 'ledger_service'::regrole \gexec

-- The reader: every table of the service, those that exist and those of later generations.
SELECT format('GRANT USAGE ON SCHEMA %1$I TO ledger_reader; GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO ledger_reader',
    nspname) FROM ledger_schemas \gexec
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_service GRANT USAGE ON SCHEMAS TO ledger_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_service GRANT SELECT ON TABLES TO ledger_reader;
DROP VIEW ledger_schemas;
COMMIT;
