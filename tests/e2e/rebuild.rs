//! Projections are compared and repaired; the log is compared and never touched.

use std::time::Duration;

use ledger_domain::TenantName;
use ledger_projections::{Projections, SchemaVersion, Settings};
use ledger_tests::{
    Command, Outcome, Servers, Service, create_stream, delete_stream, deploy, digests, projections_connection,
};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{NEXT_PROGRAM, PROGRAM, varied};

async fn told(servers: &Servers, words: &[&str]) -> Outcome {
    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let arguments: Vec<&str> =
        words.iter().copied().chain(urls.iter().map(String::as_str)).chain(["--log-filter=warn"]).collect();
    Command::start(PROGRAM, &arguments).outcome().await
}

/// A ledger with a varied history, and all of it folded.
async fn filled(servers: &Servers) -> (Service, u64) {
    let service = Service::start(PROGRAM, servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    client.recorded_all(&varied::history(600)).await;
    let (_, head) = client.position().await;
    client.projections_at(head).await;
    (service, head)
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("done");
}

#[tokio::test]
async fn everything_that_agrees_is_said_to_agree() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;

    let verified = told(&servers, &["verify"]).await;
    let root = service.client().get("/v1/position").await.ok()["root"].as_str().expect("a root").to_owned();

    assert_eq!(verified.code, Some(0), "{verified:?}");
    let agreed = format!("default: stream, copy and tree agree up to {head}: root {root}, 0 gaps");
    assert!(verified.stdout.contains(&agreed), "{verified:?}");
    assert!(verified.stdout.contains(&format!("the projections, filled anew, are the same at {head}")));
    let list = told(&servers, &["projections", "list"]).await;
    assert_eq!(list.stdout.lines().count(), 2, "what was filled to compare is gone: {list:?}");
}

#[tokio::test]
async fn projections_that_were_changed_are_named_and_repaired_on_request() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "UPDATE tracks SET version = 'v-forged' WHERE track_id = 3").await;

    let verified = told(&servers, &["verify"]).await;
    let compared = told(&servers, &["projections", "rebuild", "--verify"]).await;
    let repaired = told(&servers, &["verify", "--repair"]).await;

    for found in [verified, compared] {
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.stderr.contains("tracks") && found.stderr.contains("v-forged"), "{found:?}");
    }
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("they are repaired"), "{repaired:?}");
    service.client().projections_at(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, right);
}

#[tokio::test]
async fn what_was_changed_in_the_log_is_named_and_left_alone() {
    let servers = Servers::start().await;
    let (_service, head) = filled(&servers).await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    let changes = [
        (
            "UPDATE events SET bytes = bytes || '\\x20' WHERE position = 7",
            "position 7: the stream's entry has",
        ),
        ("UPDATE events SET leaf_hash = '\\x00' WHERE position = 8", "position 8: the leaf hash is not that"),
        ("DELETE FROM events WHERE position = 9", "position 9: the copy has lost the entry"),
        ("UPDATE tiles SET hashes = hashes || '\\x00' WHERE level = 0 AND index = 1", "tile 1 of level 0"),
        ("DELETE FROM tiles WHERE level = 0 AND index = 0", "tile 0 of level 0"),
        ("UPDATE projection SET root = decode(repeat('00', 32), 'hex')", "is kept as 0000"),
    ];
    for (change, named) in changes {
        execute(&mut tables, "BEGIN").await;
        for table in ["events", "tiles", "projection"] {
            execute(&mut tables, &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
        }
        execute(&mut tables, change).await;
        execute(&mut tables, "COMMIT").await;

        let found = told(&servers, &["verify", "--log-only"]).await;
        let repair = told(&servers, &["verify", "--repair"]).await;

        for found in [found, repair] {
            assert_eq!(found.code, Some(1), "{change}: {found:?}");
            assert!(found.stderr.contains(named), "{change}: {found:?}");
        }
        execute(&mut tables, "BEGIN").await;
        for table in ["events", "tiles", "projection"] {
            execute(&mut tables, &format!("DELETE FROM {table}")).await;
            execute(&mut tables, &format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
            execute(&mut tables, &format!("DROP TABLE kept_{table}")).await;
        }
        execute(&mut tables, "COMMIT").await;
    }
    let whole = told(&servers, &["verify"]).await;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(whole.stdout.contains(&format!("agree up to {head}")), "{whole:?}");
}

#[tokio::test]
async fn projections_are_filled_from_the_copy_of_the_log_as_well() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let before = digests(&servers.postgres_url(), "default").await;

    let rebuilt = told(&servers, &["projections", "rebuild", "--from=events"]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains(&format!("are the same at {head}")), "{rebuilt:?}");
    service.client().projections_at(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, before);
}

#[tokio::test]
async fn projections_are_not_replaced_by_those_of_another_history_unless_that_is_said() {
    let servers = Servers::start().await;
    let (service, _) = filled(&servers).await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut registry, "INSERT INTO release_ledger.followers VALUES ('default', 'somebody', 600)").await;
    let config = delete_stream(&servers).await;
    let absent = told(&servers, &["projections", "rebuild"]).await;
    create_stream(&servers, config).await;
    let event = varied::history(1).remove(0);
    // The operator makes streams, and writes no entry.
    let publisher = ledger_tests::jetstream(&servers).await;
    let stored = publisher.publish("ledger.default.staging.web.deploy.succeeded", event.into()).await;
    stored.expect("sent").await.expect("stored");

    let refused = told(&servers, &["projections", "rebuild"]).await;
    let left = told(&servers, &["projections", "list"]).await;
    let verified = told(&servers, &["verify"]).await;
    let from_events = told(&servers, &["projections", "rebuild", "--from=events"]).await;
    let done = told(&servers, &["projections", "rebuild", "--even-if-history-differs"]).await;

    assert_eq!((absent.code, refused.code, verified.code), (Some(1), Some(1), Some(1)));
    assert!(absent.stderr.contains("default has no stream"), "{absent:?}");
    assert!(refused.stderr.contains("the stream ends at 1"), "{refused:?}");
    assert_eq!(left.stdout.lines().count(), 2, "what was refused is gone: {left:?}");
    assert_eq!(from_events.code, Some(1), "{from_events:?}");
    assert!(from_events.stderr.contains("the copy is of another stream"), "{from_events:?}");
    assert!(verified.stderr.contains("the stream was made at"), "{verified:?}");
    assert_eq!(done.code, Some(0), "{done:?}");
    // The service hears of it within a fifth of a second; then it is the new history that answers.
    let answers = async { while service.client().position().await.0 != 1 {} };
    tokio::time::timeout(Duration::from_secs(60), answers).await.expect("the new history answers");
    service.client().ready().await;
    service.client().recorded(&deploy("again", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    // The process that stopped at the old one folds the new one, and knows nothing of what it put into the old one.
    service.client().projections_at(2).await;
    let sent_again = service.client().recorded_all(&varied::history(600)[1..3]).await;
    assert_eq!(sent_again, [3, 4]);
    let somebody = "SELECT position FROM release_ledger.followers WHERE name = 'somebody'";
    let followed: i64 = sqlx::query_scalar(somebody).fetch_one(&mut registry).await.expect("a follower");
    assert_eq!(followed, 0, "whoever follows begins again: positions are others");
}

#[tokio::test]
async fn a_copy_that_lacks_its_end_is_told_and_not_waited_for() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, &format!("DELETE FROM events WHERE position > {}", head - 5)).await;

    let short = told(&servers, &["projections", "rebuild", "--from=events"]).await;
    let repaired = told(&servers, &["projections", "rebuild"]).await;

    assert_eq!(short.code, Some(1), "{short:?}");
    assert!(short.stderr.contains(&format!("the copy ends at {}", head - 5)), "{short:?}");
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("differ at") && repaired.stdout.contains("events"), "{repaired:?}");
    service.client().projections_at(head).await;
}

#[tokio::test]
async fn tables_that_are_gone_are_told_and_made_again() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "DROP TABLE tracks").await;

    let made_again = told(&servers, &["projections", "rebuild"]).await;

    assert_eq!(made_again.code, Some(0), "{made_again:?}");
    assert!(made_again.stdout.contains("tracks (0 rows, and "), "{made_again:?}");
    service.client().projections_at(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, right);
}

#[tokio::test]
async fn projections_that_cannot_tell_what_they_are_of_are_replaced_only_if_that_is_said() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let right = digests(&servers.postgres_url(), "default").await;
    let mut tables = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut tables, "DROP TABLE projection").await;

    let refused = told(&servers, &["projections", "rebuild"]).await;
    let replaced = told(&servers, &["projections", "rebuild", "--even-if-history-differs"]).await;

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("do not say what they were folded from"), "{refused:?}");
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    service.client().recorded(&deploy("later", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    service.client().projections_at(head + 1).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await["tracks"].0, right["tracks"].0 + 1);
}

#[tokio::test]
async fn a_filling_that_is_ahead_of_projections_that_do_not_move_is_begun_again() {
    let servers = Servers::start().await;
    let (mut service, head) = filled(&servers).await;
    service.kill().await;
    let publisher = ledger_tests::jetstream(&servers).await;
    let event = deploy("later", "2026-08-01T10:00:00Z", "a", "b", "v1").to_string();
    let stored = publisher.publish("ledger.default.a.b.deploy.succeeded", event.into()).await;
    stored.expect("sent").await.expect("stored");
    let ahead = told(&servers, &["projections", "rebuild"]).await;
    // As if that one had been killed after it compared, and before it switched.
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    for (number, state) in [(2, "building"), (1, "live")] {
        let put = format!("UPDATE release_ledger.generations SET state = '{state}' WHERE number = {number}");
        execute(&mut registry, &put).await;
    }

    let taken_up = told(&servers, &["projections", "rebuild"]).await;

    assert_eq!((ahead.code, taken_up.code), (Some(0), Some(0)), "{taken_up:?}");
    assert!(taken_up.stdout.contains(&format!("are the same at {head}")), "{taken_up:?}");
    service.start_again().await;
    service.client().projections_at(head + 1).await;
}

#[tokio::test]
async fn what_is_being_filled_is_not_dropped_by_a_comparison_with_nothing() {
    let servers = Servers::start().await;
    let (mut service, head) = filled(&servers).await;
    service.kill().await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    execute(&mut registry, "UPDATE release_ledger.generations SET state = 'building'").await;

    let compared = told(&servers, &["projections", "rebuild", "--verify"]).await;
    let list = told(&servers, &["projections", "list"]).await;

    assert_eq!(compared.code, Some(1), "{compared:?}");
    assert!(compared.stderr.contains("no projections answer"), "{compared:?}");
    let filled = list.stdout.lines().find(|line| line.contains("building")).expect("it is still there");
    assert!(filled.contains(&head.to_string()), "{list:?}");
}

#[tokio::test]
async fn many_entries_of_a_tenant_with_any_name_are_filled_anew() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--tenants=Team.A-1"]).await;
    let client = service.client();
    for chunk in varied::history(20_500).chunks(500) {
        let path = "/v1/tenants/Team.A-1/events";
        let taken = client.post(path, "application/x-ndjson", chunk.join("\n")).await;
        assert_eq!(taken.status, 201, "{}", taken.text);
    }
    let folded = "/v1/tenants/Team.A-1/environments/production/state?wait_for=20500&wait_ms=30000";
    client.get(folded).await.ok();
    service.kill().await;

    let rebuilt = told(&servers, &["projections", "rebuild", "--tenants=Team.A-1"]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(
        rebuilt.stdout.starts_with("Team.A-1: the projections, filled anew, are the same at 20"),
        "{rebuilt:?}"
    );
}

#[tokio::test]
async fn two_do_not_fill_the_same_projections_at_once() {
    let servers = Servers::start().await;
    let (_service, _) = filled(&servers).await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    // As a process that fills them, and lives, would have it.
    let filled_by_another = format!(
        "INSERT INTO release_ledger.generations (tenant, version, number, state, owner, owner_pid, owner_began,
            owned_until)
        SELECT 'default', {}, 2, 'building', gen_random_uuid(), pid, backend_start, now() + interval '1 hour'
        FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        SchemaVersion::CURRENT.version
    );
    execute(&mut registry, &filled_by_another).await;

    let refused = told(&servers, &["projections", "rebuild"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("being filled by another process already"), "{refused:?}");

    // It dies, and with it its connection.
    drop(registry);
    let taken_up = told(&servers, &["projections", "rebuild"]).await;
    assert_eq!(taken_up.code, Some(0), "{taken_up:?}");
}

#[tokio::test]
async fn a_program_that_knows_another_form_answers_when_it_has_filled_its_projections() {
    let servers = Servers::start().await;
    let (service, head) = filled(&servers).await;
    let next = Service::start_alive(NEXT_PROGRAM, &servers, &["--only=http"]).await;
    let client = next.client();

    let not_yet = client.get("/v1/environments/production/state").await;
    let taken = client.record(&deploy("x", "2026-08-01T10:00:00Z", "a", "b", "v1")).await;
    let (ready, for_ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    let _projector = Service::start(NEXT_PROGRAM, &servers, &["--only=projector"]).await;
    client.ready().await;
    client.projections_at(head + 1).await;

    assert_eq!((not_yet.status, not_yet.problem()), (503, "projections-unavailable"));
    assert_eq!((ready.status, for_ingest.status, taken.status), (503, 200, 201));
    // Both forms are kept, each by its own program.
    service.client().projections_at(head + 1).await;
    let list = told(&servers, &["projections", "list"]).await;
    let forms: Vec<&str> = list.stdout.lines().skip(1).filter(|line| line.contains("live")).collect();
    assert_eq!(forms.len(), 2, "{list:?}");
}

#[tokio::test]
async fn a_follower_moves_on_only_from_where_it_read_and_in_projections_that_answer_still() {
    let servers = Servers::start().await;
    let (_service, _) = filled(&servers).await;
    let settings = Settings {
        url: servers.postgres_url().into(),
        connections: 1,
        acquire_timeout: Duration::from_secs(5),
        schema_version: SchemaVersion::CURRENT,
    };
    let projections = Projections::of(&settings, TenantName::default()).expect("projections");
    projections.find().await.expect("found");
    let at = async || projections.followed("somebody").await.expect("a position");
    let follow = async |from, to| projections.follow("somebody", from, to).await.expect("an answer");

    let begun = at().await;
    let first = follow(begun, begun.position.next()).await;
    let late = follow(begun, begun.position.next().next()).await;
    let before = at().await;
    let rebuilt = told(&servers, &["projections", "rebuild"]).await;
    let of_the_old = follow(before, before.position.next()).await;
    projections.find().await.expect("found");
    let after = at().await;
    let of_the_new = follow(after, after.position.next()).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_eq!((first, late, of_the_old, of_the_new), (true, false, false, true));
    assert_eq!(after.position, before.position);
}
