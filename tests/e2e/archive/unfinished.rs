//! A restore requires a fresh stream. After an interruption the stream cannot be served, and the restore continues.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use ledger_archive::{Access, Archive, Source, Store};
use ledger_codec::cloudevents::Envelope;
use ledger_devstack::nats::User;
use ledger_domain::{Position, TenantName};
use ledger_journal::jetstream::{Connection, Settings, StreamSettings};
use ledger_journal::{Record, Subject};
use ledger_tests::{Client, STREAM, Servers, Service, delete_stream, jetstream, projections_schema};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{delete_entries, deploys, has_stream, run_command, run_json, start_command, verify_archive};
use crate::PROGRAM;

#[tokio::test]
async fn an_existing_ledger_is_not_overwritten() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&deploys(1..=30)).await;
    let archive = servers.folder().join("archive");
    run_json(&servers, &["archive", "--to", &archive.to_string_lossy()]).await;
    let before = client.text("/v1/position").await;

    for source in
        [&["restore", "--from", &*archive.to_string_lossy()][..], &["restore", "--from-projections"]]
    {
        let rejected = run_command(&servers, source).await;

        assert_eq!(rejected.code, Some(1));
        let words =
            "the stream LEDGER_default exists and ends at position 30; a restore needs a fresh stream";
        assert!(rejected.stderr.contains(words), "{}", rejected.stderr);
    }
    assert_eq!(client.text("/v1/position").await, before);
    assert_eq!(client.record_all(&deploys(31..=31)).await, [31]);
}

#[tokio::test]
async fn a_restore_into_an_empty_stream_is_allowed() {
    let servers = Servers::start().await;
    let archive = archived(&servers, 30).await;
    // The service creates a stream if there is none.
    let mut service = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    assert!(service.terminate().await);
    assert!(has_stream(&servers).await);

    let restored = run_json(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(restored["position"], 30);
    service.restart().await;
    assert_eq!(service.client().positions().await.1, 30);
}

#[tokio::test]
async fn an_interrupted_restore_continues() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(1..=40)).await;
    drop(service);
    delete_entries(&servers, &[1, 12, 13, 40]).await;
    let archive = servers.folder().join("archive").to_string_lossy().into_owned();
    run_json(&servers, &["archive", "--to", &archive]).await;
    delete_stream(&servers).await;
    restore_until(&servers, &archive, 25).await;

    let served =
        run_command(&servers, &["serve", "--listen=127.0.0.1:0", "--access-authentication=off"]).await;
    let again = run_json(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(served.code, Some(1));
    assert!(served.stderr.contains("the stream LEDGER_default is being restored"), "{}", served.stderr);
    let root = verify_archive(archive.as_ref()).await["root"].clone();
    assert_eq!(again, json!({"position": 40, "root": root, "gaps": 4, "resumed_after": 25}));
    let database = servers.fresh_database("rebuilt").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().wait_for_projections(40).await;
    assert_eq!(service.client().get("/v1/position").await.ok()["root"], root);
}

#[tokio::test]
async fn an_interrupted_restore_does_not_continue_with_different_content() {
    let servers = Servers::start().await;
    let archive = archived(&servers, 30).await;
    restore_until(&servers, &archive, 10).await;
    let context = jetstream(&servers).await;
    let stored = context.publish("ledger.default.production.web.deploy.succeeded", "{}".into()).await;
    stored.expect("published").await.expect("stored");

    let rejected = run_command(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(rejected.code, Some(1));
    let words = "the stream differs from the copy at position 11";
    assert!(rejected.stderr.contains(words), "{}", rejected.stderr);
}

#[tokio::test]
async fn concurrent_archivers_write_one_archive() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(1..=500)).await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();

    let archivers = ["7", "10", "13"].map(|entries| {
        let arguments = ["archive", "--json", "--to", &to, "--segment-entries", entries];
        start_command(&servers, &arguments, &[])
    });
    for archiver in archivers {
        assert_eq!(archiver.json_output().await["position"], 500);
    }

    assert_eq!(verify_archive(&archive).await["position"], 500);
}

#[tokio::test]
async fn a_follower_seals_its_last_segment_on_sigterm() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&deploys(1..=30)).await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();
    let arguments = ["archive", "--json", "--follow", "--to", &to, "--segment-entries=20", "--segment-age=1"];
    let follower = start_command(&servers, &arguments, &[]);
    // A partial segment is sealed by its age.
    archived_to(&archive, 30).await;
    client.record_all(&deploys(31..=35)).await;
    archived_to(&archive, 35).await;

    follower.send_sigterm();

    assert_eq!(follower.json_output().await["position"], 35);
    assert_eq!(verify_archive(&archive).await["position"], 35);
}

/// Waits until the checkpoint is at a position.
async fn archived_to(archive: &std::path::Path, position: u64) {
    let written = async {
        loop {
            let text = std::fs::read_to_string(archive.join("checkpoint")).unwrap_or_default();
            if text.lines().nth(1) == Some(&position.to_string()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("the archive reaches the position");
}

/// Creates an archive of this many deploys, and deletes its stream and its projections.
async fn archived(servers: &Servers, deployed: u64) -> String {
    let service = Service::start(PROGRAM, servers, &[]).await;
    let client: Client = service.client();
    client.record_all(&deploys(1..=deployed)).await;
    drop(service);
    let archive = servers.folder().join("archive").to_string_lossy().into_owned();
    run_json(servers, &["archive", "--to", &archive]).await;
    delete_stream(servers).await;
    // Existing projections would belong to another stream.
    let mut projections = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let schema = projections_schema(&mut projections, "default").await;
    let forget = format!("DELETE FROM release_ledger.generations; DROP SCHEMA {schema} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut projections).await.expect("dropped");
    archive
}

/// Starts a restore and stops after a position.
async fn restore_until(servers: &Servers, archive: &str, until: u64) {
    let tenant = TenantName::default();
    let settings = Settings {
        url: servers.nats_url_of(User::Restorer).into(),
        credentials: None,
        certificates: None,
        client_certificate: None,
        request_timeout: Duration::from_secs(5),
        stream: StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) },
    };
    let connection = Connection::open(settings).await.expect("connected");
    let store = Store::open(archive, Access::Read, []).expect("a folder");
    let archive = Arc::new(Archive::open(store, &tenant).await.expect("an archive"));
    let records: Vec<Record> = archive.read(Position::START).try_collect().await.expect("records");
    let restoring = connection.restore(tenant.clone(), true).await.expect("started");
    let filed = records.into_iter().take(until as usize).map(|record| {
        let subject = match &record {
            Record::Entry(entry) => {
                let envelope = Envelope::stored(entry.bytes.clone()).expect("an event");
                Some(Subject::of(&tenant, &envelope.event().payload))
            }
            Record::Gap(_) => None,
        };
        (record, subject)
    });
    restoring.append(Position::START, &filed.collect::<Vec<_>>()).await.expect("written");
    assert!(has_stream(servers).await, "{STREAM} is there");
}
