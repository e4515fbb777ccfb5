//! A server that is restored from an older copy of its files while readers live, and that grows past what they read:
//! each reader ends with an error before it takes an entry of the copy.

use futures::StreamExt;
use ledger_domain::Position;
use ledger_journal::{KnownHistory, SharedJournal, SubjectFilter, Until};
use ledger_tests::copy_folder;

use crate::journal::helpers::{Records, append, contents, next_positions, with_timeout};
use crate::journal::server::Server;
use crate::journal::submissions::{in_environment, numbered};

/// Error of a reader that has read ten entries.
const REASSIGNED: &str = "the stream has a different entry at position 10";

/// Replaces the files of a server by a copy, and restarts it.
async fn restore_copy(server: &mut Server, copy: &std::path::Path) {
    server.kill().await;
    std::fs::remove_dir_all(server.store()).expect("removed");
    copy_folder(copy, &server.store());
    server.restart().await;
}

/// Returns a server with ten entries, a journal on it, and a copy of its files with the first five.
async fn server_and_copy() -> (Server, SharedJournal, tempfile::TempDir) {
    let mut server = Server::start().await;
    append(&server.journal().await, &numbered(1..=5)).await;
    server.kill().await;
    let copy = tempfile::tempdir().expect("a folder");
    copy_folder(&server.store(), copy.path());
    server.restart().await;
    let journal = server.journal().await;
    append(&journal, &numbered(6..=10)).await;
    (server, journal, copy)
}

/// Waits until a reader ends because of the copy; asserts that it takes no entry. A reader that has been without a
/// connection for long ends too, and is replaced.
async fn assert_refuses_copy(journal: &SharedJournal, records: &mut Records, history: &KnownHistory) {
    loop {
        match with_timeout(records.next()).await {
            Some(Ok(record)) => panic!("an entry of the copy: {record:?}"),
            Some(Err(error)) if error.to_string().contains(REASSIGNED) => return,
            Some(Err(_)) | None => *records = journal.read_after(history.clone(), Until::Forever),
        }
    }
}

/// Returns what a reader knows that has read the whole journal.
async fn known_history(journal: &SharedJournal) -> KnownHistory {
    let created = journal.head().await.expect("a head").created;
    let last = contents(journal).await.pop().expect("an entry");
    KnownHistory::new(created).with_leaf(last.position, last.leaf_hash())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_take_no_entry_of_an_older_copy_that_has_grown() {
    let (mut server, journal, copy) = server_and_copy().await;
    let mut all = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    let mut filtered = journal.read(in_environment("production"), Position::START, Until::Forever);
    for records in [&mut all, &mut filtered] {
        assert_eq!(next_positions(records, 10).await.last(), Some(&10));
    }
    let history = known_history(&journal).await;
    restore_copy(&mut server, copy.path()).await;
    append(&server.journal().await, &numbered(101..=110)).await;

    for records in [&mut all, &mut filtered] {
        assert_refuses_copy(&journal, records, &history).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_known_history_compares_it_before_its_first_entry() {
    let (mut server, journal, copy) = server_and_copy().await;
    let history = known_history(&journal).await;
    let mut intact = journal.read_after(history.clone(), Until::Forever);
    append(&journal, &numbered([11])).await;
    let first = next_positions(&mut intact, 1).await;
    restore_copy(&mut server, copy.path()).await;
    append(&server.journal().await, &numbered(101..=110)).await;

    let reopened = server.journal().await;
    let mut records = reopened.read_after(history.clone(), Until::Forever);

    assert_eq!(first, [11]);
    assert_refuses_copy(&reopened, &mut records, &history).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_to_the_server_is_counted() {
    let mut server = Server::start().await;
    let journal = server.journal().await;
    let first = journal.connections();
    server.kill().await;
    server.restart().await;

    // A read that succeeds used another connection.
    let reconnected = async { while journal.head().await.is_err() {} };
    with_timeout(reconnected).await;

    assert!(journal.connections() > first);
}
