//! Rights of the roles of Postgres: `ops/postgres/roles.sql` on a real server allows what each role needs, and no more.
//! What the service's role could still change is found by the comparison with the stream.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use ledger_tests::{
    Command, Outcome, Servers, Service, deploy, digests, projection_tables, projections_connection,
    projections_schema,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::PROGRAM;

const ROLES_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/postgres/roles.sql");
const SERVICE: &str = "ledger_service";
const READER: &str = "ledger_reader";
const PASSWORDS: [(&str, &str); 2] =
    [("POSTGRES_SERVICE_PASSWORD", "of-the-service"), ("POSTGRES_READER_PASSWORD", "of-the-reader")];

/// The error for a missing right, `insufficient_privilege`.
const FORBIDDEN: &str = "42501";
/// The error for a write in a read-only transaction.
const READ_ONLY: &str = "25006";
/// Upper bound of the wait until the service drops a replaced generation.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// Statements that neither role may execute. `ledger` is the superuser, and `kept.rows` a table of its own.
const FORBIDDEN_TO_BOTH: &[&str] = &[
    "CREATE DATABASE more",
    "DROP DATABASE ledger",
    "ALTER DATABASE ledger RENAME TO more",
    "ALTER DATABASE ledger SET jit = off",
    "CREATE ROLE more",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEDB",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE CURRENT_USER REPLICATION",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER ROLE ledger PASSWORD 'known'",
    "GRANT ledger TO CURRENT_USER",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "SET ROLE ledger",
    "SET SESSION AUTHORIZATION ledger",
    "SET session_replication_role = replica",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_reload_conf()",
    "CHECKPOINT",
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "SELECT stavalues1 FROM pg_statistic",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger'",
    "SELECT * FROM kept.rows",
    "CREATE TABLE kept.more (a integer)",
    "CREATE TABLE public.more (a integer)",
    "CREATE TEMPORARY TABLE more (a integer)",
    "CREATE FUNCTION release_ledger.more() RETURNS integer LANGUAGE c AS 'libc', 'abs'",
    "CREATE TABLESPACE more LOCATION '/tmp'",
    "CREATE FOREIGN DATA WRAPPER more",
    "CREATE PUBLICATION more FOR ALL TABLES",
    "SELECT pg_create_physical_replication_slot('more')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "COPY (SELECT 1) TO '/tmp/more'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'more')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_logical_emit_message(false, 'more', 'more')",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_advisory_lock_shared(1)",
];

/// Further statements that the reader may not execute, in the schema of the live projections.
const FORBIDDEN_TO_READER: &[&str] = &[
    "INSERT INTO gaps SELECT * FROM gaps",
    "UPDATE tracks SET version = 'v-forged'",
    "DELETE FROM events",
    "TRUNCATE events",
    "DROP TABLE events",
    "ALTER TABLE events ADD COLUMN more integer",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE events OWNER TO ledger_reader",
    "CREATE TABLE more (a integer)",
    "CREATE INDEX ON events (position)",
    "CREATE RULE more AS ON INSERT TO events DO NOTHING",
    "REINDEX TABLE events",
    "COMMENT ON TABLE events IS 'more'",
    "SELECT * FROM events FOR UPDATE",
    "SELECT * FROM events FOR KEY SHARE",
    "DO $$ BEGIN LOCK TABLE events IN ROW EXCLUSIVE MODE; END $$",
    "CREATE SCHEMA more",
    "DROP SCHEMA release_ledger CASCADE",
    "UPDATE release_ledger.generations SET state = 'retired'",
    "DELETE FROM release_ledger.reads",
    "DELETE FROM release_ledger.followers",
    "SELECT pg_advisory_lock(1)",
    "SET ROLE ledger_service",
    "ALTER ROLE ledger_service PASSWORD 'known'",
    "ALTER DEFAULT PRIVILEGES FOR ROLE ledger_service GRANT INSERT ON TABLES TO ledger_reader",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger_service'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'ledger_service'",
];

/// Runs the file as the superuser, with the `psql` of the server.
async fn run_roles_file(servers: &Servers, variables: &[(&str, &str)]) -> Outcome {
    let postgres = fs::read_link(format!("/proc/{}/exe", servers.postgres_pid())).expect("its program");
    let psql = postgres.with_file_name("psql");
    let url = servers.postgres_url();
    let arguments: [&str; 6] = ["--no-psqlrc", "--quiet", "--dbname", &url, "--file", ROLES_FILE];
    Command::start_with(psql.to_str().expect("a path in UTF-8"), &arguments, variables).outcome().await
}

async fn create_roles(servers: &Servers) {
    let done = run_roles_file(servers, &PASSWORDS).await;
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(0), "", ""));
}

/// Returns the URL of a role. The server of a test accepts every password.
fn url_of(servers: &Servers, role: &str, database: &str) -> String {
    format!("postgres://{role}@127.0.0.1:{}/{database}?sslmode=disable", servers.postgres_port())
}

/// Starts the service with its role.
async fn start_service(servers: &Servers) -> Service {
    let url = format!("--projections-url={}", url_of(servers, SERVICE, "ledger"));
    Service::start(PROGRAM, servers, &[&url, "--projections-grace-seconds=1"]).await
}

/// Runs a command with the settings of the service.
async fn run_command(servers: &Servers, words: &[&str]) -> Outcome {
    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", url_of(servers, SERVICE, "ledger")),
    ];
    let arguments: Vec<&str> =
        words.iter().copied().chain(urls.iter().map(String::as_str)).chain(["--log-filter=warn"]).collect();
    Command::start(PROGRAM, &arguments).outcome().await
}

fn web(number: u64) -> Value {
    deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{number}"))
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connected")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await.expect("executed");
}

/// Returns the code of a database's error, else the whole error.
fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.map_or_else(|| error.to_string(), |code| code.into_owned())
}

/// Returns the code of the error of a statement; `done` if there is none.
async fn code_of(connection: &mut PgConnection, statement: &str) -> String {
    let result = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await;
    result.map_or_else(|error| code(&error), |_| "done".to_owned())
}

async fn assert_forbidden(connection: &mut PgConnection, role: &str, statements: &[&str]) {
    let mut wrong = Vec::new();
    for statement in statements {
        let found = code_of(connection, statement).await;
        if found != FORBIDDEN {
            wrong.push(format!("{role}: {statement}: {found}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Returns the number of rows of each table of the live projections and of the registry.
async fn counts(url: &str) -> BTreeMap<String, i64> {
    let mut connection = projections_connection(url, "default").await;
    let mut tables = projection_tables(&mut connection).await;
    let registry = "SELECT 'release_ledger.' || table_name::text FROM information_schema.tables
        WHERE table_schema = 'release_ledger' AND table_name NOT LIKE '\\_%'";
    let registry: Vec<String> =
        sqlx::query_scalar(registry).fetch_all(&mut connection).await.expect("tables");
    tables.extend(registry);
    let mut counts = BTreeMap::new();
    for table in tables {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let rows = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a count");
        counts.insert(table, rows);
    }
    counts
}

/// Waits until a schema is dropped.
async fn wait_until_dropped(connection: &mut PgConnection, schema: &str) {
    let dropped = async {
        loop {
            let query = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)");
            let exists: bool =
                query.bind(schema.to_owned()).fetch_one(&mut *connection).await.expect("a row");
            if !exists {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DROP_LIMIT, dropped).await.expect("the service drops the replaced generation");
}

#[tokio::test]
async fn an_existing_ledger_continues_with_the_rights_of_the_service_role() {
    let servers = Servers::start().await;
    let mut as_superuser = Service::start(PROGRAM, &servers, &[]).await;
    as_superuser.client().record_and_wait(&web(1)).await;
    as_superuser.kill().await;
    let mut admin = connect(&servers.postgres_url()).await;
    let first_schema = projections_schema(&mut admin, "default").await;
    create_roles(&servers).await;

    let service = start_service(&servers).await;
    let client = service.client();
    client.record_and_wait(&web(2)).await;
    let rebuilt = run_command(&servers, &["projections", "rebuild"]).await;
    wait_until_dropped(&mut admin, &first_schema).await;
    // Running the file again takes nothing from the service.
    create_roles(&servers).await;
    client.record_and_wait(&web(3)).await;
    let verified = run_command(&servers, &["verify"]).await;
    let state = client.get("/v1/environments/production/state").await.ok();

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(state["lanes"][0]["release"]["version"], "v3");
    let owners: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace::regnamespace::text ~ 'ledger'",
    )
    .fetch_all(&mut admin)
    .await
    .expect("owners");
    assert_eq!(owners, [SERVICE]);
}

#[tokio::test]
async fn neither_role_can_leave_its_database_or_raise_its_rights() {
    let servers = Servers::start().await;
    let mut admin = connect(&servers.postgres_url()).await;
    execute(&mut admin, "CREATE DATABASE other").await;
    execute(&mut admin, "REVOKE CONNECT, TEMPORARY ON DATABASE other FROM PUBLIC").await;
    execute(&mut admin, "CREATE SCHEMA kept; CREATE TABLE kept.rows (a integer)").await;
    create_roles(&servers).await;
    let _service = start_service(&servers).await;

    for role in [SERVICE, READER] {
        for database in ["other", "postgres", "template1"] {
            let refused = PgConnection::connect(&url_of(&servers, role, database)).await;
            let refused = refused.err().map(|error| code(&error));
            assert_eq!(refused.as_deref(), Some(FORBIDDEN), "{role}: {database}");
        }
        let mut connection = connect(&url_of(&servers, role, "ledger")).await;
        execute(&mut connection, "SET default_transaction_read_only = off").await;
        assert_forbidden(&mut connection, role, FORBIDDEN_TO_BOTH).await;
    }

    let attributes: Vec<(String, bool)> = sqlx::query_as(
        "SELECT rolname::text,
            rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
                OR rolpassword NOT LIKE 'SCRAM-SHA-256$%'
                OR EXISTS (SELECT FROM pg_auth_members WHERE member = a.oid)
                OR EXISTS (SELECT FROM pg_database WHERE datdba = a.oid)
        FROM pg_authid a WHERE rolname IN ('ledger_service', 'ledger_reader') ORDER BY 1",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the roles");
    assert_eq!(attributes, [(READER.to_owned(), false), (SERVICE.to_owned(), false)]);
}

#[tokio::test]
async fn the_reader_reads_the_tables_of_every_generation_and_writes_nothing() {
    let servers = Servers::start().await;
    create_roles(&servers).await;
    let service = start_service(&servers).await;
    let reader = url_of(&servers, READER, "ledger");
    service.client().record_and_wait(&web(1)).await;
    let first_schema = projections_schema(&mut connect(&reader).await, "default").await;

    let first = counts(&reader).await;
    let rebuilt = run_command(&servers, &["projections", "rebuild"]).await;
    service.client().record_and_wait(&web(2)).await;
    let second = counts(&reader).await;
    let second_schema = projections_schema(&mut connect(&reader).await, "default").await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_ne!(first_schema, second_schema);
    assert_eq!((first["events"], second["events"]), (1, 2));
    let all = counts(&servers.postgres_url()).await;
    assert_eq!(second.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>(), "no table is hidden");

    let before = digests(&servers.postgres_url(), "default").await;
    let mut connection = projections_connection(&reader, "default").await;
    let by_default: (String, String) = sqlx::query_as(
        "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')",
    )
    .fetch_one(&mut connection)
    .await
    .expect("its settings");
    assert_eq!(by_default, ("30s".to_owned(), "30s".to_owned()));
    assert_eq!(code_of(&mut connection, "DELETE FROM events").await, READ_ONLY);
    execute(&mut connection, "SET default_transaction_read_only = off").await;
    assert_forbidden(&mut connection, READER, FORBIDDEN_TO_READER).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, before);
}

#[tokio::test]
async fn what_the_service_role_changes_is_found_by_the_comparison_with_the_stream() {
    let servers = Servers::start().await;
    create_roles(&servers).await;
    let service = start_service(&servers).await;
    service.client().record_and_wait(&web(1)).await;
    let mut thief = projections_connection(&url_of(&servers, SERVICE, "ledger"), "default").await;

    execute(&mut thief, "UPDATE tracks SET version = 'v-forged'").await;
    let of_answers = run_command(&servers, &["verify"]).await;
    execute(&mut thief, "UPDATE events SET bytes = bytes || '\\x20'").await;
    let of_copy = run_command(&servers, &["verify", "--log-only"]).await;

    assert_eq!((of_answers.code, of_copy.code), (Some(1), Some(1)));
    assert!(of_answers.stderr.contains("v-forged"), "{of_answers:?}");
    assert!(of_copy.stderr.contains("position 1: the stream's entry has"), "{of_copy:?}");
}

#[tokio::test]
async fn the_file_changes_nothing_without_passwords_or_on_a_server_that_others_use() {
    let servers = Servers::start().await;
    let mut admin = connect(&servers.postgres_url()).await;

    let without_passwords = run_roles_file(&servers, &PASSWORDS[..1]).await;
    execute(&mut admin, "CREATE DATABASE other").await;
    let beside_another = run_roles_file(&servers, &PASSWORDS).await;

    assert_eq!((without_passwords.code, beside_another.code), (Some(3), Some(3)));
    let advice = "set POSTGRES_SERVICE_PASSWORD and POSTGRES_READER_PASSWORD";
    assert!(without_passwords.stderr.contains(advice), "{without_passwords:?}");
    assert!(beside_another.stderr.contains("PUBLIC may connect to other"), "{beside_another:?}");
    let roles: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'ledger\\_%'")
        .fetch_one(&mut admin)
        .await
        .expect("a count");
    assert_eq!(roles, 0);
}
