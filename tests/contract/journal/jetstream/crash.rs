//! What is acknowledged survives the server, and what is not acknowledged can be given again.

use std::time::{Duration, Instant};

use ledger_journal::jetstream::Connection;
use ledger_journal::{AppendError, Outcome};

use crate::journal::new_entries::{numbered, one};
use crate::journal::reading::{
    append, assert_holds, at, contents, duplicate_of, patiently, recorded_at, try_append,
};
use crate::journal::server::{Server, impatient, opened, shared};

#[tokio::test]
async fn what_is_acknowledged_survives_the_servers_death() {
    let mut server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=1_000)).await;
    append(&journal, &numbered(1_001..=1_003)).await;
    let before = contents(&journal).await;
    let last = append(&journal, &[one(1_004)]).await;
    server.kill().await;
    server.start_again().await;

    let after = server.journal().await;
    assert_eq!(last, recorded_at([1_004]));
    assert_holds(&after, &numbered(1..=1_004)).await;
    assert_eq!(contents(&after).await[..1_003], before);
    // The server's memory of identities comes back with it.
    assert_eq!(append(&after, &numbered(995..=1_004)).await, duplicate_of(995..=1_004));
}

#[tokio::test]
async fn while_the_server_is_down_the_journal_is_unavailable_at_once() {
    let mut server = Server::start().await;
    let connection = server.connection().await;
    let journal = shared(opened(&connection).await);
    append(&journal, &numbered(1..=2)).await;
    server.kill().await;
    connected(&connection, false).await;

    let asked = Instant::now();
    for call in [numbered(3..=5), numbered(6..=40)] {
        let answers = try_append(&journal, &call).await;
        assert!(
            answers.iter().all(|answer| matches!(answer, Err(AppendError::Unavailable(_)))),
            "{answers:?}"
        );
    }
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    server.start_again().await;
    connected(&connection, true).await;
    assert_eq!(append(&journal, &numbered(3..=5)).await, recorded_at(3..=5));
    assert_eq!(append(&journal, &numbered(6..=40)).await, recorded_at(6..=40));
    assert_holds(&journal, &numbered(1..=40)).await;
}

/// Waits until a connection knows whether the server is there: it tells nobody by itself.
async fn connected(connection: &Connection, wanted: bool) {
    let known = async {
        while connection.is_connected() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_crash_interrupts_are_recorded_once_when_given_again() {
    // A size below and one above that from which a call is sent as a batch, killed at several times.
    for (size, until_killed) in [(3, 20), (3, 7), (50, 5), (50, 16), (1_000, 2), (1_000, 5)] {
        let mut server = Server::start().await;
        let journal = impatient(server.settings(), Duration::from_secs(1)).await;
        let (told, mut acknowledged) = tokio::sync::watch::channel(0);
        let appending = tokio::spawn(async move {
            for call in 0.. {
                let answers = try_append(&journal, &numbered(call * size..(call + 1) * size)).await;
                if answers.iter().any(Result::is_err) {
                    return (call, answers);
                }
                told.send_replace(call + 1);
            }
            unreachable!("the server is killed")
        });
        // On a slow server a timeout may interrupt it before: as good as the crash.
        let _ = patiently(acknowledged.wait_for(|calls| *calls >= until_killed)).await;
        server.kill().await;
        let (interrupted, first_answers) = patiently(appending).await.expect("no panic");
        server.start_again().await;

        let journal = server.journal().await;
        let again = append(&journal, &numbered(interrupted * size..(interrupted + 1) * size)).await;

        let whole = (interrupted + 1) * size;
        let entries = contents(&journal).await;
        assert_eq!(entries.len() as u64, whole, "each once");
        for (first, again) in first_answers.into_iter().zip(&again) {
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
