//! Query plans: every statement fits the tables, and state queries read only the rows that they need.

use ledger_tests::{Servers, Service, deploy, projections_connection, statement, statement_paths};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use crate::PROGRAM;

/// The tables that grow with the history.
const HISTORY: [&str; 3] = ["lane_changes", "live_changes", "events"];

#[tokio::test]
async fn every_statement_fits_the_migrated_tables() {
    let servers = Servers::start().await;
    let _service = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let mut connection = projections_connection(&servers.postgres_url(), "default").await;
    // A rebuild has this table while it runs.
    let create = AssertSqlSafe(statement("deferred_indexes/create_table"));
    sqlx::query(create).execute(&mut connection).await.expect("create a table");
    let paths = statement_paths();

    for path in &paths {
        let prepared = connection.prepare(AssertSqlSafe(statement(path)).into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    for statement in ledger_projections::statements() {
        let prepared = connection.prepare(AssertSqlSafe(without_arrays(statement)).into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    assert!(paths.len() > 90, "{} statements", paths.len());
}

/// Returns a bulk insert with rows of its own table in place of the arrays, whose types only their values determine.
/// Other statements stay as they are.
fn without_arrays(statement: &str) -> String {
    let parts = statement.strip_prefix("INSERT INTO ").and_then(|rest| rest.split_once(" SELECT unnest("));
    let Some((table, arrays)) = parts else { return statement.to_owned() };
    let (name, columns) = table.split_once(' ').expect("columns");
    let columns = columns.trim_matches(['(', ')']);
    let conflict =
        arrays.split_once(" ON CONFLICT ").map_or(String::new(), |(_, rest)| format!(" ON CONFLICT {rest}"));
    format!("INSERT INTO {table} SELECT {columns} FROM {name} WHERE true{conflict}")
}

#[tokio::test]
async fn state_queries_read_the_history_only_by_index() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let history = ledger_demo::history(Some(20_000));
    let lines: Vec<_> =
        history.map(|event| String::from_utf8(event.bytes().to_vec()).expect("UTF-8")).collect();
    service.client().record_all(&lines).await;
    let mut connection = projections_connection(&servers.postgres_url(), "default").await;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.expect("analysed");
    let filled: i64 = sqlx::query_scalar("SELECT count(*) FROM lane_changes")
        .fetch_one(&mut connection)
        .await
        .expect("a number");
    assert!(filled > 5_000, "{filled} changes");

    for (query, parameters) in state_queries() {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let plan = explain(&mut connection, &query, parameters, mode).await;
            let scans = scans(&plan);
            let of_history = scans.iter().filter(|scan| HISTORY.contains(&&*scan.table));
            let not_by_index: Vec<_> =
                of_history.clone().filter(|scan| !scan.node.contains("Index")).collect();
            assert!(not_by_index.is_empty(), "{mode}: {not_by_index:?}\n{query}\n{plan:#}");
            assert!(of_history.count() > 0, "the query reads the history: {query}");
            let rows: u64 = scans.iter().map(|scan| scan.rows_read).sum();
            assert!(rows < 1_000, "{mode}: reads {rows} rows of {filled}\n{query}\n{plan:#}");
        }
    }
    check_searches(&mut connection).await;
}

/// Checks that searches read no table of the history as a whole: an index narrows each.
async fn check_searches(connection: &mut PgConnection) {
    let pages = pages().into_iter().map(|(query, parameters)| (query, parameters, "force_custom_plan"));
    let with_mode = |mode| searches().into_iter().map(move |(query, parameters)| (query, parameters, mode));
    let searches = ["force_custom_plan", "force_generic_plan"].into_iter().flat_map(with_mode);
    for (query, parameters, mode) in pages.chain(searches) {
        let plan = explain(connection, &query, parameters, mode).await;
        let scans = scans(&plan);
        let of_history: Vec<&Scan> = scans.iter().filter(|scan| HISTORY.contains(&&*scan.table)).collect();
        let whole: Vec<_> = of_history.iter().filter(|scan| scan.node == "Seq Scan").collect();
        assert!(whole.is_empty(), "{mode}: {whole:?}\n{query}\n{plan:#}");
        let rows: u64 = of_history.iter().map(|scan| scan.rows_read).sum();
        assert!(rows < 1_000, "{mode}: reads {rows} rows of the history\n{query}\n{plan:#}");
    }
}

/// Two small TCP segments in a row would take 40 ms in every batch (delayed acknowledgement). The fastest batch
/// decides.
#[tokio::test]
async fn a_small_batch_is_written_without_waiting_for_the_network() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    for id in 0..20 {
        client
            .record_and_wait(&deploy(&id.to_string(), "2026-08-01T10:00:00Z", "production", "web", "v1"))
            .await;
    }

    let metrics = client.text("/metrics").await;

    let bucket = "ledger_projector_commit_seconds_bucket{tenant=\"default\",le=\"0.02\"} ";
    let fast = metrics.lines().find_map(|line| line.strip_prefix(bucket)).expect("a bucket");
    assert!(fast.parse::<u32>().expect("a number") > 0, "{metrics}");
}

/// Returns the statements that read the changes of lanes and of compositions, with parameters for the middle of the
/// history.
fn state_queries() -> Vec<(String, &'static str)> {
    vec![
        (statement("lanes/state_at_position"), "'production', 10000"),
        (statement("lanes/state_at_time"), "'production', 10000, '2025-12-01T00:00:00Z'"),
        (statement("lanes/changes_ago"), "'production', 100"),
    ]
}

/// Returns pages of the history, with parameters for what few entries have. Their statements are built in code, and are
/// planned with their values.
fn pages() -> Vec<(String, &'static str)> {
    let page = |condition: &str| {
        format!("SELECT * FROM events WHERE position > $1 AND {condition} ORDER BY position LIMIT $2")
    };
    let named = |column: &str| page(&format!("hashtext({column}) = hashtext($3) AND {column} = $3"));
    vec![
        (named("target"), "0, 100, 'nowhere'"),
        (named("environment"), "0, 100, 'nowhere'"),
        (named("service"), "0, 100, 'none'"),
        (named("actor"), "0, 100, 'none'"),
        (named("kind"), "0, 100, 'freeze.started'"),
        (page("artifact = ANY($3::uuid[])"), "0, 100, '{00000000-0000-0000-0000-000000000000}'"),
    ]
}

/// Returns the statements that search the history, with parameters for what few rows have.
fn searches() -> Vec<(String, &'static str)> {
    vec![
        (statement("events/failed_checks"), "0, 100"),
        (statement("artifacts/lanes"), "'{sha256:none}'"),
        (
            statement("events/deploy_frequency"),
            "'day', '2025-12-01T00:00:00Z', '2025-12-08T00:00:00Z', '{production}', '{}'",
        ),
        (statement("evidence/deployed_releases"), "1, 'none', '{sha256:none}', 'none'"),
        (
            statement("lanes/of_release"),
            "'{v3}', '0000000', '00000000', '{}', NULL, NULL, NULL, NULL, '{}', NULL",
        ),
        (
            statement("events/builds_of_release"),
            "'0000000', '00000000', '{}', NULL, NULL, NULL, NULL, '{}', NULL",
        ),
    ]
}

async fn explain(connection: &mut PgConnection, query: &str, parameters: &str, mode: &str) -> Value {
    let mut transaction = connection.begin().await.expect("started");
    let prepare = format!("SET LOCAL plan_cache_mode = {mode}; DEALLOCATE ALL; PREPARE query AS {query};");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *transaction).await.expect("prepared");
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE query({parameters})");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *transaction).await.expect("a plan");
    sqlx::Row::try_get_unchecked::<String, _>(&row, 0)
        .map(|plan| serde_json::from_str(&plan).expect("a plan is JSON"))
        .expect("a plan")
}

/// A scan of a table in a plan.
#[derive(Debug)]
struct Scan {
    node: String,
    table: String,
    rows_read: u64,
}

fn scans(plan: &Value) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut nodes = vec![&plan[0]["Plan"]];
    while let Some(node) = nodes.pop() {
        nodes.extend(node["Plans"].as_array().into_iter().flatten());
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        if let Some(table) = node["Relation Name"].as_str() {
            let read = number("Actual Rows") + number("Rows Removed by Filter");
            scans.push(Scan {
                node: node["Node Type"].as_str().expect("a node has a type").to_owned(),
                table: table.to_owned(),
                rows_read: (read * number("Actual Loops")) as u64,
            });
        }
    }
    scans
}
