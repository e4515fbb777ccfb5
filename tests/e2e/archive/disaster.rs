//! Both stores are gone, or one of them: what was archived, or what the other has, is what comes back.

use std::time::Duration;

use ledger_tests::{STREAM, Servers, Service, delete_stream, jetstream};
use serde_json::{Value, json};

use super::{command, deploys, folded, lose, segment_files, sent_again, started, told, verified};
use crate::{PROGRAM, varied};

/// Events of the demo history.
const DEMO: usize = 700;

#[tokio::test]
async fn what_was_archived_comes_back_as_it_was() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded_all(&varied::history(DEMO)).await;
    repeat_behind_its_back(&servers, &[7, 2, 7]).await;
    service.kill().await;
    lose(&servers, &[1, 2, 58]).await;
    // Folded from a stream with gaps, as everything that comes later will be.
    let database = servers.fresh_database("folded").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    let client = service.client();
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();

    let following = ["archive", "--follow", "--to", &to, "--segment-entries=100", "--segment-age=3600"];
    let follower = started(&servers, &following, &[]);
    let sealed = async {
        while segment_files(&archive, ".json").len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sealed).await.expect("segments are sealed");
    follower.kill().await;
    let first = told(&servers, &["archive", "--to", &to, "--segment-entries=250"]).await;
    client.recorded_all(&deploys(1..=40)).await;
    let second = told(&servers, &["archive", "--to", &to]).await;
    let nothing = told(&servers, &["archive", "--to", &to]).await;
    let (_, head) = client.position().await;
    client.projections_at(head).await;
    let (before, position) = (folded(&database).await, client.text("/v1/position").await);
    let root = client.get("/v1/position").await.ok()["root"].clone();
    let expected = json!({"position": head, "root": root, "segments": 0});
    assert!(first["segments"].as_u64() > Some(0), "{first}");
    assert_eq!((&second["segments"], &nothing), (&json!(1), &expected));
    drop((service, client));
    let verified = verified(&archive).await;
    assert_eq!((&verified["position"], &verified["root"]), (&json!(head), &root));
    assert_eq!(verified["gaps"], 3);
    // Killed between a segment and its manifest, the follower leaves the one without the other.
    assert!(verified["unnamed_files"].as_u64() <= Some(1), "{verified}");
    let saved = tempfile::tempdir().expect("a folder");
    let kept = saved.path().join("archive");
    std::fs::rename(&archive, &kept).expect("the archive is kept elsewhere");
    drop(servers);

    let fresh = Servers::start().await;
    let restored = told(&fresh, &["restore", "--from", &kept.to_string_lossy()]).await;
    let service = Service::start(PROGRAM, &fresh, &[]).await;
    let client = service.client();
    client.projections_at(head).await;

    assert_eq!(restored, json!({"position": head, "root": root, "gaps": 3, "resumed_after": 0}));
    assert_eq!(folded(&fresh.postgres_url()).await, before);
    assert_eq!(client.text("/v1/position").await, position);
    assert_goes_on(&fresh, &service, head).await;
}

#[tokio::test]
async fn the_tables_bring_back_the_stream() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded_all(&varied::history(DEMO)).await;
    repeat_behind_its_back(&servers, &[9]).await;
    let (_, head) = client.position().await;
    client.projections_at(head).await;
    let (before, position) = (folded(&servers.postgres_url()).await, client.text("/v1/position").await);
    assert!(service.terminate().await);
    delete_stream(&servers).await;

    let restored = told(&servers, &["restore", "--from-projections"]).await;

    assert_eq!(restored["position"], head);
    let database = servers.fresh_database("anew").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().projections_at(head).await;
    assert_eq!(folded(&database).await, before);
    assert_eq!(service.client().text("/v1/position").await, position);
    assert_goes_on(&servers, &service, head).await;
}

#[tokio::test]
async fn tables_that_were_changed_bring_nothing_back() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded_all(&deploys(1..=20)).await;
    assert!(service.terminate().await);
    delete_stream(&servers).await;
    let mut projections = ledger_tests::projections_connection(&servers.postgres_url(), "default").await;
    let changed = "UPDATE events SET bytes = set_byte(bytes, 9, 65) WHERE position = 11";
    sqlx::query(changed).execute(&mut projections).await.expect("changed");

    let refused = command(&servers, &["restore", "--from-projections"]).await;
    sqlx::query("DELETE FROM events WHERE position = 11").execute(&mut projections).await.expect("deleted");
    let incomplete = command(&servers, &["restore", "--from-projections"]).await;

    assert_eq!((refused.code, incomplete.code), (Some(1), Some(1)));
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    assert!(incomplete.stderr.contains("table events, row 11: it is missing"), "{}", incomplete.stderr);
    assert!(!super::has_stream(&servers).await);
}

/// Publishes the entries at these positions again, past the intake and without their identities.
async fn repeat_behind_its_back(servers: &Servers, positions: &[u64]) {
    let jetstream = jetstream(servers).await;
    let stream = jetstream.get_stream(STREAM).await.expect("the stream");
    for position in positions {
        let entry = stream.get_raw_message(*position).await.expect("an entry");
        let stored = jetstream.publish(entry.subject, entry.payload).await.expect("published");
        stored.await.expect("stored");
    }
}

/// A restored ledger is one as any other: nothing can be deleted, what is new comes next, and what is sent
/// again is known.
async fn assert_goes_on(servers: &Servers, service: &Service, head: u64) {
    let client = service.client();
    let stream = jetstream(servers).await.get_stream(STREAM).await.expect("the stream");
    stream.delete_message(head).await.expect_err("an entry cannot be deleted");
    stream.purge().await.expect_err("entries cannot be purged");
    let last: Value = client.entries().await.pop().expect("an entry");
    let again = sent_again(&client, &last["event"]).await;
    assert_eq!(again["status"], "duplicate", "{again}");
    assert_eq!(client.recorded_all(&deploys(1_000..=1_000)).await, [head + 1]);
}
