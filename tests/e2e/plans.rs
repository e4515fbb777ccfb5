//! Plans: every statement fits the tables, and no question about a state reads what it does not need.

use ledger_tests::{Servers, Service, deploy, projections_connection};
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
    let statements = ledger_projections::statements();

    for statement in &statements {
        let prepared = connection.prepare(statement.into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{error}\n{statement}"));
    }

    assert!(statements.len() >= 15, "{} statements", statements.len());
}

#[tokio::test]
async fn a_state_is_found_by_indexes_alone() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let history = ledger_demo::history(Some(20_000));
    let lines: Vec<_> =
        history.map(|event| String::from_utf8(event.bytes().to_vec()).expect("UTF-8")).collect();
    service.client().recorded_all(&lines).await;
    let mut connection = projections_connection(&servers.postgres_url(), "default").await;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.expect("analysed");
    let filled: i64 = sqlx::query_scalar("SELECT count(*) FROM lane_changes")
        .fetch_one(&mut connection)
        .await
        .expect("a number");
    assert!(filled > 5_000, "{filled} changes");

    for (question, parameters) in state_questions() {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let plan = explained(&mut connection, question, parameters, mode).await;
            let scans = scans(&plan);
            let of_history = scans.iter().filter(|scan| HISTORY.contains(&&*scan.table));
            let not_by_index: Vec<_> =
                of_history.clone().filter(|scan| !scan.node.contains("Index")).collect();
            assert!(not_by_index.is_empty(), "{mode}: {not_by_index:?}\n{question}\n{plan:#}");
            assert!(of_history.count() > 0, "the question is about the history: {question}");
            let rows: u64 = scans.iter().map(|scan| scan.rows_read).sum();
            assert!(rows < 1_000, "{mode}: {rows} rows are read of {filled}\n{question}\n{plan:#}");
        }
    }
}

/// Two small segments in a row would wait 40 ms for each other, in every batch: the fastest tells.
#[tokio::test]
async fn a_small_batch_is_written_without_waiting_for_the_network() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    for id in 0..20 {
        client.recorded(&deploy(&id.to_string(), "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    }

    let metrics = client.text("/metrics").await;

    let bucket = "ledger_projector_commit_seconds_bucket{tenant=\"default\",le=\"0.02\"} ";
    let fast = metrics.lines().find_map(|line| line.strip_prefix(bucket)).expect("a bucket");
    assert!(fast.parse::<u32>().expect("a number") > 0, "{metrics}");
}

/// The statements that look into the changes of lanes, and of what they run, with the parameters of a question in the middle of
/// the history.
fn state_questions() -> Vec<(&'static str, &'static str)> {
    let statements = ledger_projections::statements().into_iter();
    let of_changes = |sql: &&str| sql.contains("lane_changes") || sql.contains("live_changes");
    let questions = statements.filter(of_changes).filter(|sql| sql.starts_with("SELECT p.position"));
    let questions: Vec<_> = questions
        .map(|sql| match (sql.contains("$3"), sql.contains("live_changes")) {
            (true, _) => (sql, "'production', 10000, '2025-12-01T00:00:00Z'"),
            (false, true) => (sql, "'production', 100"),
            (false, false) => (sql, "'production', 10000"),
        })
        .collect();
    assert_eq!(questions.len(), 3, "at a position, at a time, changes ago");
    questions
}

async fn explained(connection: &mut PgConnection, question: &str, parameters: &str, mode: &str) -> Value {
    let mut transaction = connection.begin().await.expect("begun");
    let prepare =
        format!("SET LOCAL plan_cache_mode = {mode}; DEALLOCATE ALL; PREPARE question AS {question};");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *transaction).await.expect("prepared");
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE question({parameters})");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *transaction).await.expect("a plan");
    sqlx::Row::try_get_unchecked::<String, _>(&row, 0)
        .map(|plan| serde_json::from_str(&plan).expect("a plan is JSON"))
        .expect("a plan")
}

/// How a table is read.
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
