//! Rejections: servers that are too old, events that are too large, and all appends while the stream is full.

use async_nats::jetstream::stream::Config;
use ledger_journal::AppendError;
use ledger_journal::jetstream::{Connection, OpenError, VersionError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::journal::helpers::{append, assert_holds, at, duplicate_of, recorded_at, try_append};
use crate::journal::server::{Server, settings};
use crate::journal::submissions::{numbered, with_bytes};

/// Starts a server that greets like a nats-server of this version and responds only to pings; returns its URL.
async fn server_of_version(version: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let info = format!(
        "INFO {{\"server_id\":\"FAKE\",\"server_name\":\"fake\",\"version\":\"{version}\",\"proto\":1,\
         \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576}}\r\n"
    );
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, info.clone()));
        }
    });
    url
}

async fn serve(mut client: TcpStream, info: String) {
    let (reads, mut writes) = client.split();
    let mut lines = BufReader::new(reads).lines();
    let mut response = info.as_str();
    while writes.write_all(response.as_bytes()).await.is_ok() {
        let Ok(Some(line)) = lines.next_line().await else { return };
        response = if line.starts_with("PING") { "PONG\r\n" } else { "" };
    }
}

#[tokio::test]
async fn a_server_version_that_is_too_old_is_rejected() {
    for version in ["2.11.11", "2.9.10", "2.12.0"] {
        let error = Connection::open(settings(&server_of_version(version).await)).await.err();

        let message = error.as_ref().expect("an error").to_string();
        assert!(matches!(error, Some(OpenError::Version(VersionError::TooOld(_)))), "{message}");
        assert!(message.contains(&format!("nats-server {version} is too old")), "{message}");
        assert!(message.contains("2.12.1"), "{message}");
    }
}

#[tokio::test]
async fn three_replicas_require_a_newer_server() {
    let open = async |version: &str| {
        let mut settings = settings(&server_of_version(version).await);
        settings.stream.replicas = 3;
        Connection::open(settings).await.err()
    };

    let error = open("2.14.3").await;
    assert!(matches!(error, Some(OpenError::Version(VersionError::TooOldForReplicas(_, 3)))), "{error:?}");
    assert!(open("2.14.4").await.is_none());
}

#[tokio::test]
async fn a_server_with_an_unreadable_version_is_rejected() {
    let error = Connection::open(settings(&server_of_version("unknown").await)).await.err();

    assert!(matches!(error, Some(OpenError::Version(VersionError::Unreadable(_)))), "{error:?}");
}

#[tokio::test]
async fn a_failed_connection_is_reported_without_the_password() {
    let mut server = Server::start().await;
    let settings = server.settings();
    server.kill().await;

    let error = Connection::open(settings).await.err();

    let message = error.as_ref().expect("an error").to_string();
    assert!(matches!(error, Some(OpenError::Connect { .. })), "{message}");
    assert!(message.contains("nats://127.0.0.1:") && !message.contains('@'), "{message}");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_rejected_and_the_others_are_recorded() {
    let server = Server::start().await;
    let journal = server.journal().await;
    let mut end = 0;
    for size in [3, 20, 300] {
        let mut call = numbered(size * 1_000..size * 1_001);
        let index = call.len() / 2;
        call[index] = with_bytes(&call[index], vec![b'x'; 200_000]);

        let mut results = try_append(&journal, &call).await;

        let error = results.remove(index);
        assert!(matches!(error, Err(AppendError::Refused(_))), "{error:?}");
        let outcomes: Vec<_> = results.into_iter().map(|result| result.expect("an outcome")).collect();
        assert_eq!(outcomes, recorded_at(end + 1..end + size), "{size} in a call");
        end += size - 1;
    }
    assert_eq!(journal.head().await.expect("a head").position, at(end));
}

#[tokio::test]
async fn a_full_stream_rejects_appends_and_loses_nothing() {
    let limits: [fn(&mut Config); 2] =
        [|config| config.max_bytes = 40_000, |config| config.max_messages = 101];
    for limit in limits {
        let server = Server::start().await;
        let journal = server.journal().await;
        append(&journal, &numbered(1..=100)).await;
        let large = |numbers| -> Vec<_> {
            numbered(numbers).iter().map(|one| with_bytes(one, vec![b'x'; 12_000])).collect()
        };
        server.update(limit).await;

        // There is room for one more event. A batch that does not fit completely is not recorded at all.
        let batch = try_append(&journal, &large(101..=120)).await;
        assert!(batch.iter().all(|result| matches!(result, Err(AppendError::Full(_)))), "{batch:?}");
        assert_eq!(append(&journal, &large(101..=101)).await, recorded_at([101]));
        let single = try_append(&journal, &large(102..=104)).await;
        assert!(single.iter().all(|result| matches!(result, Err(AppendError::Full(_)))), "{single:?}");
        assert_eq!(append(&journal, &numbered(7..=7)).await, duplicate_of([7]));
        assert_holds(&journal, &[numbered(1..=100), large(101..=101)].concat()).await;

        server.update(|config| (config.max_bytes, config.max_messages) = (-1, -1)).await;
        assert_eq!(append(&journal, &large(102..=120)).await, recorded_at(102..=120));
        assert_holds(&server.journal().await, &[numbered(1..=100), large(101..=120)].concat()).await;
    }
}
