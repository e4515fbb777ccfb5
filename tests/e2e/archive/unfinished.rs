//! A restore goes only into a fresh stream; cut short, it is no ledger yet, and goes on where it was.

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

use super::{command, deploys, has_stream, lose, started, told, verified};
use crate::PROGRAM;

#[tokio::test]
async fn a_ledger_is_not_restored_over() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded_all(&deploys(1..=30)).await;
    let archive = servers.folder().join("archive");
    told(&servers, &["archive", "--to", &archive.to_string_lossy()]).await;
    let before = client.text("/v1/position").await;

    for source in
        [&["restore", "--from", &*archive.to_string_lossy()][..], &["restore", "--from-projections"]]
    {
        let refused = command(&servers, source).await;

        assert_eq!(refused.code, Some(1));
        let words =
            "the stream LEDGER_default is there and ends at position 30: only a fresh one is restored";
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert_eq!(client.text("/v1/position").await, before);
    assert_eq!(client.recorded_all(&deploys(31..=31)).await, [31]);
}

#[tokio::test]
async fn an_empty_stream_is_restored_into() {
    let servers = Servers::start().await;
    let archive = archived(&servers, 30).await;
    // A service that found no stream made one.
    let mut service = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    assert!(service.terminate().await);
    assert!(has_stream(&servers).await);

    let restored = told(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(restored["position"], 30);
    service.start_again().await;
    assert_eq!(service.client().position().await.1, 30);
}

#[tokio::test]
async fn a_restore_that_was_cut_short_goes_on() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded_all(&deploys(1..=40)).await;
    drop(service);
    lose(&servers, &[1, 12, 13, 40]).await;
    let archive = servers.folder().join("archive").to_string_lossy().into_owned();
    told(&servers, &["archive", "--to", &archive]).await;
    delete_stream(&servers).await;
    begin(&servers, &archive, 25).await;

    let served = command(&servers, &["serve", "--listen=127.0.0.1:0"]).await;
    let again = told(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(served.code, Some(1));
    assert!(served.stderr.contains("the stream LEDGER_default is being restored"), "{}", served.stderr);
    let root = verified(archive.as_ref()).await["root"].clone();
    assert_eq!(again, json!({"position": 40, "root": root, "gaps": 4, "resumed_after": 25}));
    let database = servers.fresh_database("anew").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().projections_at(40).await;
    assert_eq!(service.client().get("/v1/position").await.ok()["root"], root);
}

#[tokio::test]
async fn what_was_cut_short_is_not_taken_for_another_archives() {
    let servers = Servers::start().await;
    let archive = archived(&servers, 30).await;
    begin(&servers, &archive, 10).await;
    let context = jetstream(&servers).await;
    let stored = context.publish("ledger.default.production.web.deploy.succeeded", "{}".into()).await;
    stored.expect("published").await.expect("stored");

    let refused = command(&servers, &["restore", "--from", &archive]).await;

    assert_eq!(refused.code, Some(1));
    let words = "what the stream has at position 11 is not what the copy has";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
}

#[tokio::test]
async fn archivers_at_once_write_one_archive() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded_all(&deploys(1..=500)).await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();

    let at_once = ["7", "10", "13"].map(|entries| {
        let arguments = ["archive", "--json", "--to", &to, "--segment-entries", entries];
        started(&servers, &arguments, &[])
    });
    for archiver in at_once {
        assert_eq!(archiver.ended().await["position"], 500);
    }

    assert_eq!(verified(&archive).await["position"], 500);
}

#[tokio::test]
async fn a_follower_seals_what_it_has_when_it_is_told_to_end() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded_all(&deploys(1..=30)).await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();
    let arguments = ["archive", "--json", "--follow", "--to", &to, "--segment-entries=20", "--segment-age=1"];
    let follower = started(&servers, &arguments, &[]);
    // What does not fill a segment is sealed by its age.
    archived_to(&archive, 30).await;
    client.recorded_all(&deploys(31..=35)).await;
    archived_to(&archive, 35).await;

    follower.ask_to_end();

    assert_eq!(follower.ended().await["position"], 35);
    assert_eq!(verified(&archive).await["position"], 35);
}

/// Waits until the checkpoint is of a position.
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
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("the archive comes to the position");
}

/// An archive of so many deploys, whose stream is then deleted.
async fn archived(servers: &Servers, deployed: u64) -> String {
    let service = Service::start(PROGRAM, servers, &[]).await;
    let client: Client = service.client();
    client.recorded_all(&deploys(1..=deployed)).await;
    drop(service);
    let archive = servers.folder().join("archive").to_string_lossy().into_owned();
    told(servers, &["archive", "--to", &archive]).await;
    delete_stream(servers).await;
    // Projections that survive know another stream.
    let mut projections = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let schema = projections_schema(&mut projections, "default").await;
    let forget = format!("DELETE FROM release_ledger.generations; DROP SCHEMA {schema} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut projections).await.expect("dropped");
    archive
}

/// A restore that comes no further than a position.
async fn begin(servers: &Servers, archive: &str, until: u64) {
    let tenant = TenantName::default();
    let settings = Settings {
        url: servers.nats_url_of(User::Restorer).into(),
        credentials: None,
        certificates: None,
        request_timeout: Duration::from_secs(5),
        stream: StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) },
    };
    let connection = Connection::open(settings).await.expect("connected");
    let store = Store::open(archive, Access::Read, []).expect("a folder");
    let archive = Arc::new(Archive::open(store, &tenant).await.expect("an archive"));
    let records: Vec<Record> = archive.read(Position::START).try_collect().await.expect("records");
    let restoring = connection.restore(tenant.clone(), true).await.expect("begun");
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
