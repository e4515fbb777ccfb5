//! Crashes of the server: acknowledged entries survive, and unacknowledged ones can be appended again.

use std::time::{Duration, Instant};

use ledger_journal::jetstream::Connection;
use ledger_journal::{AppendError, Outcome};

use crate::journal::helpers::{
    append, assert_holds, at, contents, duplicate_of, recorded_at, try_append, with_timeout,
};
use crate::journal::server::{Server, journal_with_timeout, open_journal, shared};
use crate::journal::submissions::{numbered, one};

#[tokio::test]
async fn acknowledged_entries_survive_a_kill_of_the_server() {
    let mut server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=1_000)).await;
    append(&journal, &numbered(1_001..=1_003)).await;
    let before = contents(&journal).await;
    let last = append(&journal, &[one(1_004)]).await;
    server.kill().await;
    server.restart().await;

    let after = server.journal().await;
    assert_eq!(last, recorded_at([1_004]));
    assert_holds(&after, &numbered(1..=1_004)).await;
    assert_eq!(contents(&after).await[..1_003], before);
    // The server's deduplication window survives with it.
    assert_eq!(append(&after, &numbered(995..=1_004)).await, duplicate_of(995..=1_004));
}

#[tokio::test]
async fn while_the_server_is_down_appends_fail_immediately() {
    let mut server = Server::start().await;
    let connection = server.connection().await;
    let journal = shared(open_journal(&connection).await);
    append(&journal, &numbered(1..=2)).await;
    server.kill().await;
    wait_until_connected(&connection, false).await;

    let started = Instant::now();
    for call in [numbered(3..=5), numbered(6..=40)] {
        let results = try_append(&journal, &call).await;
        assert!(
            results.iter().all(|result| matches!(result, Err(AppendError::Unavailable(_)))),
            "{results:?}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    server.restart().await;
    wait_until_connected(&connection, true).await;
    assert_eq!(append(&journal, &numbered(3..=5)).await, recorded_at(3..=5));
    assert_eq!(append(&journal, &numbered(6..=40)).await, recorded_at(6..=40));
    assert_holds(&journal, &numbered(1..=40)).await;
}

/// Polls until a connection is in the wanted state; it has no notification.
async fn wait_until_connected(connection: &Connection, wanted: bool) {
    let changed = async {
        while connection.is_connected() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    with_timeout(changed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_interrupted_by_a_crash_are_recorded_once_when_repeated() {
    // Sizes below and above the threshold for sending a batch, killed after several numbers of batches.
    for (size, until_killed) in [(3, 20), (3, 7), (50, 5), (50, 16), (1_000, 2), (1_000, 5)] {
        let mut server = Server::start().await;
        let journal = journal_with_timeout(server.settings(), Duration::from_secs(1)).await;
        let (acknowledge, mut acknowledged) = tokio::sync::watch::channel(0);
        let appending = tokio::spawn(async move {
            for call in 0.. {
                let results = try_append(&journal, &numbered(call * size..(call + 1) * size)).await;
                if results.iter().any(Result::is_err) {
                    return (call, results);
                }
                acknowledge.send_replace(call + 1);
            }
            unreachable!("the server is killed")
        });
        // On a slow server a timeout may interrupt the task first, which is as good as the crash.
        let _ = with_timeout(acknowledged.wait_for(|calls| *calls >= until_killed)).await;
        server.kill().await;
        let (interrupted, first_results) = with_timeout(appending).await.expect("no panic");
        server.restart().await;

        let journal = server.journal().await;
        let again = append(&journal, &numbered(interrupted * size..(interrupted + 1) * size)).await;

        let whole = (interrupted + 1) * size;
        let entries = contents(&journal).await;
        assert_eq!(entries.len() as u64, whole, "each entry once");
        for (first, again) in first_results.into_iter().zip(&again) {
            match first {
                Ok(Outcome::Recorded(position) | Outcome::Duplicate(position)) => {
                    assert_eq!(*again, Outcome::Duplicate(position));
                }
                unknown => assert!(matches!(unknown, Err(AppendError::Unavailable(_))), "{unknown:?}"),
            }
        }
        assert_eq!(append(&journal, &numbered(0..whole)).await.len() as u64, whole);
        assert_eq!(journal.head().await.expect("a head").position, at(whole));
        let acknowledged: Vec<_> = numbered(0..interrupted * size).into_iter().map(|one| one.bytes).collect();
        let kept: Vec<_> = entries[..acknowledged.len()].iter().map(|entry| entry.bytes.clone()).collect();
        assert_eq!(kept, acknowledged);
    }
}
