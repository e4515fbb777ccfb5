//! Verification and rebuilds: projections are compared and repaired, the log is only compared.

use std::time::Duration;

use ledger_domain::TenantName;
use ledger_projections::{Projections, SchemaVersion, Settings};
use ledger_tests::{
    Command, EventStream, Outcome, Servers, Service, create_stream, delete_stream, deploy, digests,
    projection_tables, projections_connection,
};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{NEXT_PROGRAM, PROGRAM, varied};

async fn run_command(servers: &Servers, words: &[&str]) -> Outcome {
    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let arguments: Vec<&str> =
        words.iter().copied().chain(urls.iter().map(String::as_str)).chain(["--log-filter=warn"]).collect();
    Command::start(PROGRAM, &arguments).outcome().await
}

/// Starts a service, records a varied history and waits until it is projected; returns the service and the head.
async fn start_with_history(servers: &Servers) -> (Service, u64) {
    let service = Service::start(PROGRAM, servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    client.record_all(&varied::history(600)).await;
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    (service, head)
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("executed");
}

#[tokio::test]
async fn verify_confirms_an_intact_ledger() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;

    let verified = run_command(&servers, &["verify"]).await;
    let root = service.client().get("/v1/position").await.ok()["root"].as_str().expect("a root").to_owned();

    assert_eq!(verified.code, Some(0), "{verified:?}");
    let agreed = format!("default: stream, copy and tree agree up to {head}: root {root}, 0 gaps");
    assert!(verified.stdout.contains(&agreed), "{verified:?}");
    let same = format!("the rebuilt and the live projections are the same at {head}");
    assert!(verified.stdout.contains(&same), "{verified:?}");
    let list = run_command(&servers, &["projections", "list"]).await;
    assert_eq!(
        list.stdout.lines().count(),
        2,
        "the projections built for the comparison are dropped: {list:?}"
    );
}

#[tokio::test]
async fn modified_projections_are_reported_and_repaired_on_request() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "UPDATE tracks SET version = 'v-forged' WHERE track_id = 3").await;

    let verified = run_command(&servers, &["verify"]).await;
    let compared = run_command(&servers, &["projections", "rebuild", "--verify"]).await;
    let repaired = run_command(&servers, &["verify", "--repair"]).await;

    for found in [verified, compared] {
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.stderr.contains("tracks") && found.stderr.contains("v-forged"), "{found:?}");
    }
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("they are replaced"), "{repaired:?}");
    service.client().wait_for_projections(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, right);
}

#[tokio::test]
async fn modifications_of_the_log_copy_are_reported_and_not_repaired() {
    let servers = Servers::start().await;
    let (_service, head) = start_with_history(&servers).await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    let changes = [
        (
            "UPDATE events SET bytes = bytes || '\\x20' WHERE position = 7",
            "position 7: the stream's entry has",
        ),
        ("UPDATE events SET leaf_hash = '\\x00' WHERE position = 8", "position 8: the stored leaf hash"),
        ("DELETE FROM events WHERE position = 9", "position 9: missing in the copy"),
        ("UPDATE tiles SET hashes = hashes || '\\x00' WHERE level = 1 AND index = 0", "tile 0 of level 1"),
        ("DELETE FROM tiles WHERE level = 1 AND index = 0", "tile 0 of level 1"),
        ("UPDATE projection SET root = decode(repeat('00', 32), 'hex')", "entries is 0000"),
        (
            "UPDATE events SET recorded_at = recorded_at + interval '1 year' WHERE position = 7",
            "position 7: stream and copy have different recording times",
        ),
        (
            "UPDATE projection SET leaf_hash = decode(repeat('00', 32), 'hex')",
            "the checkpoint's leaf hash of the entry at position",
        ),
        (
            "UPDATE projection SET stream_created = NULL",
            "table projection, row the only one: stream_created is null at position",
        ),
        (
            "UPDATE projection SET leaf_hash = NULL",
            "table projection, row the only one: leaf_hash is null at position",
        ),
        ("UPDATE projection SET root = ''", "table projection, row the only one: root has 0 bytes, not 32"),
        ("DELETE FROM projection", "table projection, row the only one: the row is missing"),
    ];
    for (change, named) in changes {
        execute(&mut tables, "BEGIN").await;
        for table in ["events", "tiles", "projection"] {
            execute(&mut tables, &format!("CREATE TABLE public.kept_{table} AS SELECT * FROM {table}")).await;
        }
        execute(&mut tables, change).await;
        execute(&mut tables, "COMMIT").await;

        let found = run_command(&servers, &["verify", "--log-only"]).await;
        let repair = run_command(&servers, &["verify", "--repair"]).await;

        for found in [found, repair] {
            assert_eq!(found.code, Some(1), "{change}: {found:?}");
            assert!(found.stderr.contains(named), "{change}: {found:?}");
        }
        execute(&mut tables, "BEGIN").await;
        for table in ["events", "tiles", "projection"] {
            execute(&mut tables, &format!("DELETE FROM {table}")).await;
            execute(&mut tables, &format!("INSERT INTO {table} SELECT * FROM public.kept_{table}")).await;
            execute(&mut tables, &format!("DROP TABLE public.kept_{table}")).await;
        }
        execute(&mut tables, "COMMIT").await;
    }
    let intact = run_command(&servers, &["verify"]).await;
    assert_eq!(intact.code, Some(0), "{intact:?}");
    assert!(intact.stdout.contains(&format!("agree up to {head}")), "{intact:?}");
}

#[tokio::test]
async fn a_row_that_is_missing_in_any_table_is_reported_with_its_table() {
    let servers = Servers::start().await;
    let (mut service, _) = start_with_history(&servers).await;
    service.kill().await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    let mut changed = Vec::new();
    for table in projection_tables(&mut tables).await {
        // The log and its tree are compared before, up to the first difference.
        if ["events", "projection", "tiles"].contains(&table.as_str()) {
            continue;
        }
        let delete = format!("DELETE FROM {table} WHERE ctid = (SELECT ctid FROM {table} LIMIT 1)");
        let deleted = sqlx::query(AssertSqlSafe(delete)).execute(&mut tables).await.expect("executed");
        if deleted.rows_affected() > 0 {
            changed.push(table);
        }
    }
    drop(tables);

    let found = run_command(&servers, &["verify"]).await;

    assert!(changed.len() >= 10, "{changed:?}");
    assert_eq!(found.code, Some(1), "{found:?}");
    for table in changed {
        assert!(found.stderr.contains(&format!("{table} (")), "{table}: {found:?}");
    }
}

/// Changes of the schema that leave all rows unchanged, each with the words by which it is named.
const SCHEMA_CHANGES: [(&str, &str); 10] = [
    ("DROP INDEX events_identity", "index events_identity is missing"),
    ("CREATE INDEX events_identity_2 ON events (identity)", "index events_identity_2 is unexpected"),
    (
        "ALTER TABLE policies RENAME TO _policies; CREATE VIEW policies AS SELECT * FROM _policies",
        "relation policies is \"view",
    ),
    (
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER swallows BEFORE INSERT ON freezes FOR EACH ROW EXECUTE FUNCTION swallow()",
        "trigger freezes.swallows is unexpected",
    ),
    ("CREATE RULE ignores AS ON DELETE TO freezes DO INSTEAD NOTHING", "rule freezes.ignores is unexpected"),
    ("ALTER TABLE tracks ADD COLUMN more text", "column tracks.more is unexpected: text"),
    ("ALTER TABLE tracks ALTER COLUMN version TYPE varchar(9999)", "column tracks.version is"),
    ("ALTER TABLE builds DROP CONSTRAINT builds_pkey", "constraint builds.builds_pkey is missing"),
    ("CREATE TABLE more (a integer) INHERITS (gaps)", "inheritance gaps.more is unexpected"),
    ("ALTER TABLE gaps ENABLE ROW LEVEL SECURITY", "relation gaps is \"table with row security\""),
];

#[tokio::test]
async fn modifications_of_the_schema_are_reported_and_repaired_on_request() {
    let servers = Servers::start().await;
    let (mut service, head) = start_with_history(&servers).await;
    service.kill().await;
    for (change, named) in SCHEMA_CHANGES {
        let mut tables = projections_connection(&servers.postgres_url(), "default").await;
        // A change may be several statements.
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut tables).await.expect("executed");
        drop(tables);

        let found = run_command(&servers, &["verify", "--log-only"]).await;
        let repaired = run_command(&servers, &["verify", "--repair"]).await;

        assert_eq!(found.code, Some(1), "{change}: {found:?}");
        assert!(found.stderr.contains(named), "{change}: {found:?}");
        assert_eq!(repaired.code, Some(0), "{change}: {repaired:?}");
        assert!(repaired.stdout.contains(named), "{change}: {repaired:?}");
        assert!(repaired.stdout.contains("they are replaced"), "{change}: {repaired:?}");
    }
    let intact = run_command(&servers, &["verify"]).await;
    assert_eq!(intact.code, Some(0), "{intact:?}");
    assert!(intact.stdout.contains(&format!("agree up to {head}")), "{intact:?}");
}

#[tokio::test]
async fn projections_can_be_rebuilt_from_the_log_copy() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let before = digests(&servers.postgres_url(), "default").await;

    let rebuilt = run_command(&servers, &["projections", "rebuild", "--from=events"]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains(&format!("are the same at {head}")), "{rebuilt:?}");
    service.client().wait_for_projections(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, before);
}

#[tokio::test]
async fn projections_of_a_different_history_are_replaced_only_on_request() {
    let servers = Servers::start().await;
    let (service, _) = start_with_history(&servers).await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut registry, "INSERT INTO release_ledger.followers VALUES ('default', 'follower', 600)").await;
    let mut stream = EventStream::open(&service.client(), "/v1/events/stream").await;
    let config = delete_stream(&servers).await;
    let absent = run_command(&servers, &["projections", "rebuild"]).await;
    create_stream(&servers, config).await;
    let event = varied::history(1).remove(0);
    // The operator may create streams but not publish entries.
    let publisher = ledger_tests::jetstream(&servers).await;
    let stored = publisher.publish("ledger.default.staging.web.deploy.succeeded", event.into()).await;
    stored.expect("sent").await.expect("stored");

    let rejected = run_command(&servers, &["projections", "rebuild"]).await;
    let left = run_command(&servers, &["projections", "list"]).await;
    let verified = run_command(&servers, &["verify"]).await;
    let from_events = run_command(&servers, &["projections", "rebuild", "--from=events"]).await;
    let done = run_command(&servers, &["projections", "rebuild", "--even-if-history-differs"]).await;

    assert_eq!((absent.code, rejected.code, verified.code), (Some(1), Some(1), Some(1)));
    assert!(absent.stderr.contains("default has no stream"), "{absent:?}");
    assert!(rejected.stderr.contains("the stream ends at 1"), "{rejected:?}");
    assert_eq!(left.stdout.lines().count(), 2, "the rejected projections are dropped: {left:?}");
    assert_eq!(from_events.code, Some(1), "{from_events:?}");
    assert!(from_events.stderr.contains("the copy belongs to another stream"), "{from_events:?}");
    assert!(verified.stderr.contains("the stream was created at"), "{verified:?}");
    assert_eq!(done.code, Some(0), "{done:?}");
    // The service notices the new generation within 200 ms; then it answers from the new history.
    let switched = async { while service.client().positions().await.0 != 1 {} };
    tokio::time::timeout(Duration::from_secs(60), switched).await.expect("queries use the new history");
    service.client().wait_until_ready().await;
    service.client().record_and_wait(&deploy("again", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    // The process that stopped at the old history projects the new one and has forgotten the old identities.
    service.client().wait_for_projections(2).await;
    let sent_again = service.client().record_all(&varied::history(600)[1..3]).await;
    assert_eq!(sent_again, [3, 4]);
    let position = "SELECT position FROM release_ledger.followers WHERE name = 'follower'";
    let followed: Option<i64> =
        sqlx::query_scalar(position).fetch_optional(&mut registry).await.expect("an answer");
    assert_eq!(followed, None, "a follower starts again, because the positions belong to another history");
    let mut last = stream.next().await.expect("the position");
    while let Some(event) = stream.next().await {
        last = event;
    }
    let detail = last.data["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("the projections were replaced; "), "no entry of the new history: {last:?}");
}

#[tokio::test]
async fn a_rebuild_from_a_truncated_copy_fails() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, &format!("DELETE FROM events WHERE position > {}", head - 5)).await;

    let short = run_command(&servers, &["projections", "rebuild", "--from=events"]).await;
    let repaired = run_command(&servers, &["projections", "rebuild"]).await;

    assert_eq!(short.code, Some(1), "{short:?}");
    assert!(short.stderr.contains(&format!("the copy ends at {}", head - 5)), "{short:?}");
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("differ at") && repaired.stdout.contains("events"), "{repaired:?}");
    service.client().wait_for_projections(head).await;
}

#[tokio::test]
async fn missing_tables_are_reported_and_recreated() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "DROP TABLE tracks").await;

    let rebuilt = run_command(&servers, &["projections", "rebuild"]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains("tracks (0 live rows, "), "{rebuilt:?}");
    service.client().wait_for_projections(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, right);
}

#[tokio::test]
async fn projections_without_a_checkpoint_are_replaced_only_on_request() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "DROP TABLE projection").await;

    let rejected = run_command(&servers, &["projections", "rebuild"]).await;
    let replaced = run_command(&servers, &["projections", "rebuild", "--even-if-history-differs"]).await;

    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.stderr.contains("have no checkpoint"), "{rejected:?}");
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    service.client().record_and_wait(&deploy("later", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    service.client().wait_for_projections(head + 1).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await["tracks"].0, right["tracks"].0 + 1);
}

#[tokio::test]
async fn a_rebuild_ahead_of_stopped_projections_is_restarted() {
    let servers = Servers::start().await;
    let (mut service, head) = start_with_history(&servers).await;
    service.kill().await;
    let publisher = ledger_tests::jetstream(&servers).await;
    let event = deploy("later", "2026-08-01T10:00:00Z", "a", "b", "v1").to_string();
    let stored = publisher.publish("ledger.default.a.b.deploy.succeeded", event.into()).await;
    stored.expect("sent").await.expect("stored");
    let ahead = run_command(&servers, &["projections", "rebuild"]).await;
    // As if the rebuild had been killed after the comparison and before the switch.
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    for (number, state) in [(2, "building"), (1, "live")] {
        let put = format!("UPDATE release_ledger.generations SET state = '{state}' WHERE number = {number}");
        execute(&mut registry, &put).await;
    }

    let resumed = run_command(&servers, &["projections", "rebuild"]).await;

    assert_eq!((ahead.code, resumed.code), (Some(0), Some(0)), "{resumed:?}");
    assert!(resumed.stdout.contains(&format!("are the same at {head}")), "{resumed:?}");
    service.restart().await;
    service.client().wait_for_projections(head + 1).await;
}

#[tokio::test]
async fn a_failed_comparison_does_not_drop_a_rebuild_in_progress() {
    let servers = Servers::start().await;
    let (mut service, head) = start_with_history(&servers).await;
    service.kill().await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut registry, "UPDATE release_ledger.generations SET state = 'building'").await;

    let compared = run_command(&servers, &["projections", "rebuild", "--verify"]).await;
    let list = run_command(&servers, &["projections", "list"]).await;

    assert_eq!(compared.code, Some(1), "{compared:?}");
    assert!(compared.stderr.contains("no live projections"), "{compared:?}");
    let building =
        list.stdout.lines().find(|line| line.contains("building")).expect("the rebuild still exists");
    assert!(building.contains(&head.to_string()), "{list:?}");
}

#[tokio::test]
async fn a_large_tenant_with_special_characters_is_rebuilt() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--tenants=Team.A-1"]).await;
    let client = service.client();
    for chunk in varied::history(20_500).chunks(500) {
        let path = "/v1/tenants/Team.A-1/events";
        let accepted = client.post(path, "application/x-ndjson", chunk.join("\n")).await;
        assert_eq!(accepted.status, 201, "{}", accepted.text);
    }
    let projected = "/v1/tenants/Team.A-1/environments/production/state?wait_for=20500&wait_ms=30000";
    client.get(projected).await.ok();
    service.kill().await;

    let rebuilt = run_command(&servers, &["projections", "rebuild", "--tenants=Team.A-1"]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(
        rebuilt.stdout.starts_with("Team.A-1: the rebuilt and the live projections are the same at 20"),
        "{rebuilt:?}"
    );
}

#[tokio::test]
async fn concurrent_rebuilds_of_the_same_projections_are_rejected() {
    let servers = Servers::start().await;
    let (_service, _) = start_with_history(&servers).await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    // The row of another live process that rebuilds the projections.
    let other_rebuild = format!(
        "INSERT INTO release_ledger.generations (tenant, version, number, state, owner, owner_pid, owner_began,
            owned_until)
        SELECT 'default', {}, 2, 'building', gen_random_uuid(), pid, backend_start, now() + interval '1 hour'
        FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        SchemaVersion::CURRENT.version
    );
    execute(&mut registry, &other_rebuild).await;

    let rejected = run_command(&servers, &["projections", "rebuild"]).await;
    assert_eq!(rejected.code, Some(1));
    assert!(rejected.stderr.contains("another process is already rebuilding"), "{rejected:?}");

    // Closing the connection looks like the death of that process.
    drop(registry);
    let resumed = run_command(&servers, &["projections", "rebuild"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
}

#[tokio::test]
async fn a_program_with_a_new_schema_version_answers_after_its_projections_are_built() {
    let servers = Servers::start().await;
    let (service, head) = start_with_history(&servers).await;
    let next = Service::start_alive(NEXT_PROGRAM, &servers, &["--only=http"]).await;
    let client = next.client();

    let not_yet = client.get("/v1/environments/production/state").await;
    let accepted = client.record(&deploy("x", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    let (ready, for_ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    let _projector = Service::start(NEXT_PROGRAM, &servers, &["--only=projector"]).await;
    client.wait_until_ready().await;
    client.wait_for_projections(head + 1).await;

    assert_eq!((not_yet.status, not_yet.problem()), (503, "projections-unavailable"));
    assert_eq!((ready.status, for_ingest.status, accepted.status), (503, 200, 201));
    // Each program maintains its own schema version.
    service.client().wait_for_projections(head + 1).await;
    let list = run_command(&servers, &["projections", "list"]).await;
    let versions: Vec<&str> = list.stdout.lines().skip(1).filter(|line| line.contains("live")).collect();
    assert_eq!(versions.len(), 2, "{list:?}");
}

#[tokio::test]
async fn a_follower_advances_only_from_its_last_position_and_in_live_projections() {
    let servers = Servers::start().await;
    let (_service, _) = start_with_history(&servers).await;
    let settings = Settings {
        url: servers.postgres_url().into(),
        connections: 1,
        acquire_timeout: Duration::from_secs(5),
        schema_version: SchemaVersion::CURRENT,
    };
    let projections = Projections::new(&settings, TenantName::default()).expect("projections");
    projections.activate_live().await.expect("found");
    let at = async || projections.follower_checkpoint("follower").await.expect("a position");
    let follow = async |from, to| projections.advance_follower("follower", from, to).await.expect("a result");

    let initial = at().await;
    let first = follow(initial, initial.position.next()).await;
    let late = follow(initial, initial.position.next().next()).await;
    let before = at().await;
    let rebuilt = run_command(&servers, &["projections", "rebuild"]).await;
    let in_old_generation = follow(before, before.position.next()).await;
    projections.activate_live().await.expect("found");
    let after = at().await;
    let in_new_generation = follow(after, after.position.next()).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_eq!((first, late, in_old_generation, in_new_generation), (true, false, false, true));
    assert_eq!(after.position, before.position);
}
