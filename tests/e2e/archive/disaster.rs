//! Loss of one store or both: the archive or the other store restores everything.

use std::time::Duration;

use ledger_tests::{STREAM, Servers, Service, delete_stream, jetstream};
use serde_json::{Value, json};

use super::{
    delete_entries, deploys, record_again, run_command, run_json, segment_files, start_command,
    table_digests, verify_archive,
};
use crate::{PROGRAM, varied};

/// Number of events of the demo history.
const DEMO: usize = 700;

#[tokio::test]
async fn an_archive_restores_everything_unchanged() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&varied::history(DEMO)).await;
    republish(&servers, &[7, 2, 7]).await;
    publish_foreign(&servers).await;
    service.kill().await;
    delete_entries(&servers, &[1, 2, 58]).await;
    // Projected from a stream with gaps, like all later projections.
    let database = servers.fresh_database("projected").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    let client = service.client();
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();

    let follow = ["archive", "--follow", "--to", &to, "--segment-entries=100", "--segment-age=3600"];
    let follower = start_command(&servers, &follow, &[]);
    let sealed = async {
        while segment_files(&archive, ".json").len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sealed).await.expect("segments are sealed");
    follower.kill().await;
    let first = run_json(&servers, &["archive", "--to", &to, "--segment-entries=250"]).await;
    client.record_all(&deploys(1..=40)).await;
    let second = run_json(&servers, &["archive", "--to", &to]).await;
    let nothing = run_json(&servers, &["archive", "--to", &to]).await;
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let (before, position) = (table_digests(&database).await, client.text("/v1/position").await);
    let root = client.get("/v1/position").await.ok()["root"].clone();
    let expected = json!({"position": head, "root": root, "segments": 0});
    assert!(first["segments"].as_u64() > Some(0), "{first}");
    assert_eq!((&second["segments"], &nothing), (&json!(1), &expected));
    drop((service, client));
    let verified = verify_archive(&archive).await;
    assert_eq!((&verified["position"], &verified["root"]), (&json!(head), &root));
    assert_eq!(verified["gaps"], 3);
    // A follower killed between writing a segment and its manifest leaves the segment without the manifest.
    assert!(verified["unnamed_files"].as_u64() <= Some(1), "{verified}");
    let saved = tempfile::tempdir().expect("a folder");
    let kept = saved.path().join("archive");
    std::fs::rename(&archive, &kept).expect("the archive is moved");
    drop(servers);

    let fresh = Servers::start().await;
    let restored = run_json(&fresh, &["restore", "--from", &kept.to_string_lossy()]).await;
    let service = Service::start(PROGRAM, &fresh, &[]).await;
    let client = service.client();
    client.wait_for_projections(head).await;

    assert_eq!(restored, json!({"position": head, "root": root, "gaps": 3, "resumed_after": 0}));
    assert_eq!(table_digests(&fresh.postgres_url()).await, before);
    assert_eq!(client.text("/v1/position").await, position);
    assert_works(&fresh, &service, head).await;
}

#[tokio::test]
async fn the_projections_restore_the_stream() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&varied::history(DEMO)).await;
    republish(&servers, &[9]).await;
    publish_foreign(&servers).await;
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let (before, position) =
        (table_digests(&servers.postgres_url()).await, client.text("/v1/position").await);
    assert!(service.terminate().await);
    delete_stream(&servers).await;

    let restored = run_json(&servers, &["restore", "--from-projections"]).await;

    assert_eq!(restored["position"], head);
    let database = servers.fresh_database("rebuilt").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().wait_for_projections(head).await;
    assert_eq!(table_digests(&database).await, before);
    assert_eq!(service.client().text("/v1/position").await, position);
    assert_works(&servers, &service, head).await;
}

#[tokio::test]
async fn changed_projections_restore_nothing() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(1..=20)).await;
    assert!(service.terminate().await);
    delete_stream(&servers).await;
    let mut projections = ledger_tests::projections_connection(&servers.postgres_url(), "default").await;
    let changed = "UPDATE events SET bytes = set_byte(bytes, 9, 65) WHERE position = 11";
    sqlx::query(changed).execute(&mut projections).await.expect("changed");

    let rejected = run_command(&servers, &["restore", "--from-projections"]).await;
    sqlx::query("DELETE FROM events WHERE position = 11").execute(&mut projections).await.expect("deleted");
    let incomplete = run_command(&servers, &["restore", "--from-projections"]).await;

    assert_eq!((rejected.code, incomplete.code), (Some(1), Some(1)));
    assert!(rejected.stderr.starts_with("error: "), "{}", rejected.stderr);
    assert!(incomplete.stderr.contains("table events, row 11: it is missing"), "{}", incomplete.stderr);
    assert!(!super::has_stream(&servers).await);
}

/// Publishes the entries at these positions again, bypassing the service and without their identities.
async fn republish(servers: &Servers, positions: &[u64]) {
    let jetstream = jetstream(servers).await;
    let stream = jetstream.get_stream(STREAM).await.expect("the stream");
    for position in positions {
        let entry = stream.get_raw_message(*position).await.expect("an entry");
        let stored = jetstream.publish(entry.subject, entry.payload).await.expect("published");
        stored.await.expect("stored");
    }
}

/// Publishes entries that are no events of a ledger. One is the text that holds a gap's position during a restore.
async fn publish_foreign(servers: &Servers) {
    let jetstream = jetstream(servers).await;
    for payload in ["garbage", r#"{"type":"io.nats.jetstream.api.v1.error"}"#, "release-ledger gap 1", ""] {
        let subject = "ledger.default.production.web.deploy.succeeded";
        let stored = jetstream.publish(subject, payload.into()).await.expect("published");
        stored.await.expect("stored");
    }
}

/// Asserts that a restored ledger works like any other: nothing can be deleted, new events get the next positions, and
/// repeated events are duplicates.
async fn assert_works(servers: &Servers, service: &Service, head: u64) {
    let client = service.client();
    let stream = jetstream(servers).await.get_stream(STREAM).await.expect("the stream");
    stream.delete_message(head).await.expect_err("an entry cannot be deleted");
    stream.purge().await.expect_err("entries cannot be purged");
    let last: Value = client.entries().await.pop().expect("an entry");
    let again = record_again(&client, &last["event"]).await;
    assert_eq!(again["status"], "duplicate", "{again}");
    assert_eq!(client.record_all(&deploys(1_000..=1_000)).await, [head + 1]);
}
