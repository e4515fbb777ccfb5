//! The stream: its configuration when created, and the rejection of unsuitable streams, which stay unchanged.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use ledger_domain::{EnvironmentName, Payload, TenantName};
use ledger_journal::Subject;
use ledger_journal::jetstream::{Connection, OpenError, Settings, StreamSettings};
use ledger_tests::STREAM;
use serde_json::{Value, json};

use crate::journal::helpers::{append, assert_holds, at, contents, recorded_at, with_timeout};
use crate::journal::server::{Server, open_journal, shared, stream_settings};
use crate::journal::submissions::{numbered, one};

/// A change that makes a good configuration unsuitable.
type Change = fn(&mut Config);

fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).expect("a name")
}

#[tokio::test]
async fn a_stream_is_created_with_the_designed_configuration() {
    let server = Server::start().await;
    let settings = Settings {
        stream: StreamSettings { duplicate_window: Duration::from_secs(900), ..stream_settings() },
        ..server.settings()
    };
    let connection = Connection::open(settings).await.expect("connected");
    connection.journal(tenant("acme.eu")).await.expect("a journal");

    let raw = server.raw().await;
    let info: Value = raw.request("STREAM.INFO.LEDGER_acme=eu", &json!({})).await.expect("a response");

    let expected = json!({
        "name": "LEDGER_acme=eu",
        "subjects": ["ledger.acme%2Eeu.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": 128 * 1024,
        "num_replicas": 1,
        "duplicate_window": 900_000_000_000_u64,
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": true,
        "allow_atomic": true,
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(info["config"][name], *value, "{name}");
    }
    for unset in ["sealed", "no_ack", "allow_rollup_hdrs", "allow_msg_ttl", "mirror_direct"] {
        assert_ne!(info["config"][unset], json!(true), "{unset}");
    }
    for unset in ["mirror", "sources", "subject_transform", "republish", "first_seq"] {
        assert_eq!(info["config"][unset], Value::Null, "{unset}");
    }
}

#[tokio::test]
async fn an_existing_stream_is_opened_unchanged() {
    let server = Server::start().await;
    let first = server.journal().await;
    append(&first, &numbered(1..=10)).await;

    let again = server.journal().await;

    assert_eq!(again.head().await, first.head().await);
    assert_eq!(contents(&again).await, contents(&first).await);
}

#[tokio::test]
async fn concurrent_opens_return_the_same_journal() {
    let server = Server::start().await;
    let connections = futures::future::join_all((0..8).map(|_| server.connection())).await;

    let journals = futures::future::join_all(connections.iter().map(open_journal)).await;

    let journals: Vec<_> = journals.into_iter().map(shared).collect();
    for (number, journal) in (1..).zip(&journals) {
        assert_eq!(append(journal, &[one(number)]).await, recorded_at([number]));
    }
}

#[tokio::test]
async fn no_message_can_be_deleted_or_purged() {
    let server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=3)).await;
    let stream = server.raw().await.get_stream(STREAM).await.expect("a stream");

    let errors = [
        stream.delete_message(2).await.expect_err("rejected").to_string(),
        stream.purge().await.expect_err("rejected").to_string(),
        stream.purge().filter("ledger.default.production.>").await.expect_err("rejected").to_string(),
    ];

    assert!(errors[0].contains("message delete not permitted"), "{errors:?}");
    assert!(errors[1].contains("stream purge not permitted"), "{errors:?}");
    assert!(errors[2].contains("stream purge not permitted"), "{errors:?}");
    assert_holds(&journal, &numbered(1..=3)).await;
}

#[tokio::test]
async fn deny_delete_and_deny_purge_cannot_be_revoked() {
    let server = Server::start().await;
    server.journal().await;
    let raw = server.raw().await;
    let config = raw.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();

    raw.update_stream(Config { deny_delete: false, ..config.clone() }).await.expect_err("rejected");
    raw.update_stream(Config { deny_purge: false, ..config }).await.expect_err("rejected");
}

#[tokio::test]
async fn an_unsuitable_stream_is_rejected_with_the_difference() {
    let server = Server::start().await;
    let connection = server.connection().await;
    connection.journal(tenant("model")).await.expect("a journal");
    let raw = server.raw().await;
    let model = raw.get_stream("LEDGER_model").await.expect("a stream").cached_info().config.clone();

    let changes: [(&str, Change); 13] = [
        ("max_age", |config| config.max_age = Duration::from_secs(3600)),
        ("deny_delete", |config| config.deny_delete = false),
        ("deny_purge", |config| config.deny_purge = false),
        ("discard", |config| config.discard = DiscardPolicy::Old),
        ("max_messages", |config| config.max_messages = 1_000),
        ("max_messages_per_subject", |config| config.max_messages_per_subject = 1),
        ("max_message_size", |config| config.max_message_size = 1_024),
        ("retention", |config| config.retention = RetentionPolicy::Interest),
        ("storage", |config| config.storage = StorageType::Memory),
        ("duplicate_window", |config| config.duplicate_window = Duration::from_secs(1)),
        ("no_ack", |config| config.no_ack = true),
        ("allow_atomic_publish", |config| config.allow_atomic_publish = false),
        ("first_sequence", |config| config.first_sequence = Some(5)),
    ];
    for (number, (field, change)) in changes.into_iter().enumerate() {
        // Each stream has its own name: the server may still be removing a deleted one.
        let mut config = model.clone();
        config.name = format!("LEDGER_bad-{number}");
        config.subjects = vec![format!("ledger.bad-{number}.>")];
        change(&mut config);
        raw.create_stream(&config).await.unwrap_or_else(|error| panic!("{field}: {error}"));

        let error = connection.journal(tenant(&format!("bad-{number}"))).await.err().expect("rejected");

        let OpenError::Mismatch { stream, differences } = &error else {
            panic!("{field}: {error:?}");
        };
        assert_eq!(*stream, config.name);
        assert_eq!(differences.len(), 1, "{field}: {differences:?}");
        assert!(differences[0].starts_with(&format!("{field} is ")), "{field}: {differences:?}");
        assert!(error.to_string().contains(&differences[0]), "{error}");
    }
}

#[tokio::test]
async fn all_differences_are_reported_together_and_nothing_is_changed() {
    let server = Server::start().await;
    let raw = server.raw().await;
    let unsuitable =
        Config { name: STREAM.into(), subjects: vec!["ledger.default.>".into()], ..Config::default() };
    raw.create_stream(&unsuitable).await.expect("a stream");
    let before = raw.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();

    let error = server.connection().await.journal(TenantName::default()).await.err();

    let message = error.expect("rejected").to_string();
    for field in ["discard", "max_message_size", "deny_delete", "deny_purge", "allow_atomic_publish"] {
        assert!(message.contains(&format!("{field} is ")), "{field}: {message}");
    }
    assert_eq!(raw.get_stream(STREAM).await.expect("a stream").cached_info().config, before);
}

#[tokio::test]
async fn a_recreated_journal_has_a_later_creation_time() {
    let server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=3)).await;
    let first = journal.head().await.expect("a head");

    server.raw().await.delete_stream(STREAM).await.expect("deleted");
    let connection = server.connection().await;
    let recreated = async {
        loop {
            match connection.journal(TenantName::default()).await {
                // The server is still removing the old stream.
                Err(OpenError::JetStream { .. }) => tokio::task::yield_now().await,
                opened => return shared(opened.expect("a journal")),
            }
        }
    };
    let again = with_timeout(recreated).await;
    append(&again, &numbered(1..=3)).await;

    let second = again.head().await.expect("a head");
    assert_eq!(second.position, at(3));
    assert!(second.created > first.created);
}

#[tokio::test]
async fn tenants_on_one_server_are_isolated() {
    let server = Server::start().await;
    let connection = server.connection().await;
    let names = ["a", "a.b", "A", "ab"];
    let mut journals = Vec::new();
    for name in names {
        journals.push(shared(connection.journal(tenant(name)).await.expect("a journal")));
    }

    // The same identities at the same positions in each tenant's ledger.
    for (journal, name) in journals.iter().zip(names) {
        let mut events = numbered(1..=12);
        for new_entry in &mut events {
            new_entry.bytes = format!("of {name}").into();
            new_entry.subject = subject_of(name);
        }
        assert_eq!(append(journal, &events).await, recorded_at(1..=12), "{name}");
        assert_eq!(append(journal, &events[..3]).await.len(), 3, "{name}");
    }

    for (journal, name) in journals.iter().zip(names) {
        let entries = contents(journal).await;
        assert_eq!(entries.len(), 12, "{name}");
        assert!(entries.iter().all(|entry| entry.bytes == format!("of {name}")), "{name}: {entries:?}");
    }
}

fn subject_of(name: &str) -> Subject {
    let environment = EnvironmentName::parse("production").expect("a name");
    Subject::of(&tenant(name), &Payload::EnvironmentRetired(environment))
}

#[tokio::test]
async fn the_duplicate_window_is_not_counted_on_while_the_settings_of_the_stream_differ() {
    let server = Server::start().await;
    let journal = server.journal().await;
    let designed = stream_settings().duplicate_window;
    assert_eq!(journal.duplicate_window(), designed);

    server.update(|config| config.duplicate_window = Duration::from_secs(1)).await;
    let drift = journal.config_drift().await.expect("the settings");
    let changed = journal.duplicate_window();
    server.update(|config| config.duplicate_window = designed).await;
    journal.head().await.expect("a head");

    assert_eq!((drift.len(), changed), (1, Duration::ZERO), "{drift:?}");
    assert_eq!(journal.duplicate_window(), designed);
}
