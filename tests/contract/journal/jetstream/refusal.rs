//! What is refused: servers that are too old, members that are too big, and all when the stream is full.

use async_nats::jetstream::stream::Config;
use ledger_journal::AppendError;
use ledger_journal::jetstream::{Connection, OpenError, VersionError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::journal::new_entries::{numbered, with_bytes};
use crate::journal::reading::{append, assert_holds, at, duplicate_of, recorded_at, try_append};
use crate::journal::server::{Server, settings};

/// The URL of one who talks as a nats-server of this version does, and knows nothing else.
async fn server_of_version(version: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let info = format!(
        "INFO {{\"server_id\":\"FAKE\",\"server_name\":\"fake\",\"version\":\"{version}\",\"proto\":1,\
         \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576}}\r\n"
    );
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(greet(client, info.clone()));
        }
    });
    url
}

async fn greet(mut client: TcpStream, info: String) {
    let (reads, mut writes) = client.split();
    let mut lines = BufReader::new(reads).lines();
    let mut answer = info.as_str();
    while writes.write_all(answer.as_bytes()).await.is_ok() {
        let Ok(Some(line)) = lines.next_line().await else { return };
        answer = if line.starts_with("PING") { "PONG\r\n" } else { "" };
    }
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_by_its_version() {
    for version in ["2.11.11", "2.9.10", "2.12.0"] {
        let refused = Connection::open(settings(&server_of_version(version).await)).await.err();

        let told = refused.as_ref().expect("refused").to_string();
        assert!(matches!(refused, Some(OpenError::Version(VersionError::TooOld(_)))), "{told}");
        assert!(told.contains(&format!("nats-server {version} is too old")), "{told}");
        assert!(told.contains("2.12.1"), "{told}");
    }
}

#[tokio::test]
async fn for_three_replicas_a_newer_server_is_needed() {
    let open = async |version: &str| {
        let mut settings = settings(&server_of_version(version).await);
        settings.stream.replicas = 3;
        Connection::open(settings).await.err()
    };

    let refused = open("2.14.3").await;
    assert!(
        matches!(refused, Some(OpenError::Version(VersionError::TooOldForReplicas(_, 3)))),
        "{refused:?}"
    );
    assert!(open("2.14.4").await.is_none());
}

#[tokio::test]
async fn a_server_of_no_known_version_is_refused() {
    let refused = Connection::open(settings(&server_of_version("unknown").await)).await.err();

    assert!(matches!(refused, Some(OpenError::Version(VersionError::Unreadable(_)))), "{refused:?}");
}

#[tokio::test]
async fn nobody_there_is_told_without_the_password() {
    let mut server = Server::start().await;
    let settings = server.settings();
    server.kill().await;

    let refused = Connection::open(settings).await.err();

    let told = refused.as_ref().expect("refused").to_string();
    assert!(matches!(refused, Some(OpenError::Connect { .. })), "{told}");
    assert!(told.contains("nats://127.0.0.1:") && !told.contains('@'), "{told}");
}

#[tokio::test]
async fn a_member_that_is_too_big_is_refused_and_the_others_are_recorded() {
    let server = Server::start().await;
    let journal = server.journal().await;
    let mut end = 0;
    for size in [3, 20, 300] {
        let mut call = numbered(size * 1_000..size * 1_001);
        let index = call.len() / 2;
        call[index] = with_bytes(&call[index], vec![b'x'; 200_000]);

        let mut answers = try_append(&journal, &call).await;

        let refused = answers.remove(index);
        assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
        let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.expect("an outcome")).collect();
        assert_eq!(outcomes, recorded_at(end + 1..end + size), "{size} in a call");
        end += size - 1;
    }
    assert_eq!(journal.head().await.expect("a head").position, at(end));
}

#[tokio::test]
async fn a_full_stream_refuses_and_loses_nothing() {
    let limits: [fn(&mut Config); 2] =
        [|config| config.max_bytes = 40_000, |config| config.max_messages = 101];
    for limit in limits {
        let server = Server::start().await;
        let journal = server.journal().await;
        append(&journal, &numbered(1..=100)).await;
        let great = |numbers| -> Vec<_> {
            numbered(numbers).iter().map(|one| with_bytes(one, vec![b'x'; 12_000])).collect()
        };
        server.update(limit).await;

        // There is room for one more. Of a batch that does not fit as a whole, nothing is recorded.
        let batch = try_append(&journal, &great(101..=120)).await;
        assert!(batch.iter().all(|answer| matches!(answer, Err(AppendError::Full(_)))), "{batch:?}");
        assert_eq!(append(&journal, &great(101..=101)).await, recorded_at([101]));
        let single = try_append(&journal, &great(102..=104)).await;
        assert!(single.iter().all(|answer| matches!(answer, Err(AppendError::Full(_)))), "{single:?}");
        assert_eq!(append(&journal, &numbered(7..=7)).await, duplicate_of([7]));
        assert_holds(&journal, &[numbered(1..=100), great(101..=101)].concat()).await;

        server.update(|config| (config.max_bytes, config.max_messages) = (-1, -1)).await;
        assert_eq!(append(&journal, &great(102..=120)).await, recorded_at(102..=120));
        assert_holds(&server.journal().await, &[numbered(1..=100), great(101..=120)].concat()).await;
    }
}
