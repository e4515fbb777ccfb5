//! Readers during a failure of the server or the connection: a reader either continues or ends with an error. Reading
//! again from the last position then loses nothing and repeats nothing.

use std::time::Duration;

use futures::StreamExt;
use ledger_domain::Position;
use ledger_journal::{SharedJournal, SubjectFilter, Until};
use ledger_tests::{Proxy, STREAM};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::journal::helpers::{append, next_positions, positions, read, try_append, with_timeout};
use crate::journal::server::{Server, journal_with_timeout};
use crate::journal::submissions::{in_environment, in_service, numbered, one};

/// The time that a reader waits for a response; these tests wait for it too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Follows a journal like a projector: reads again after each error. Returns a task with all positions in the order of
/// arrival, and a channel with the latest one.
fn follow(
    journal: SharedJournal,
    filter: SubjectFilter,
    end: u64,
) -> (JoinHandle<Vec<u64>>, watch::Receiver<u64>) {
    let (progress, position) = watch::channel(0);
    let following = async move {
        let mut found: Vec<u64> = Vec::new();
        loop {
            let last = found.last().copied().unwrap_or(0);
            let mut records = journal.read(filter.clone(), Position::new(last), Until::Forever);
            while let Some(Ok(record)) = records.next().await {
                found.push(record.position().get());
                progress.send_replace(record.position().get());
                if record.position().get() == end {
                    return found;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    (tokio::spawn(following), position)
}

fn filters() -> [SubjectFilter; 3] {
    [SubjectFilter::All, in_environment("production"), in_service("production", "web")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_the_server_is_killed_and_restarted() {
    let mut server = Server::start().await;
    let journal = journal_with_timeout(server.settings(), REQUEST_TIMEOUT).await;
    let followers = filters().map(|filter| follow(journal.clone(), filter, 1_300));
    append(&journal, &numbered(1..=1_200)).await;
    for (_, progress) in &followers {
        with_timeout(progress.clone().wait_for(|position| *position >= 700)).await.expect("progress");
    }
    server.kill().await;
    server.restart().await;
    append(&server.journal().await, &numbered(1_201..=1_300)).await;

    for (following, _) in followers {
        assert_eq!(with_timeout(following).await.expect("no panic"), (1..=1_300).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_the_connection_is_cut_repeatedly() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
    let followers = filters().map(|filter| follow(journal.clone(), filter, 800));
    let direct = server.journal().await;
    for start in [1, 201, 401, 601] {
        append(&direct, &numbered(start..start + 200)).await;
        for (_, progress) in &followers {
            with_timeout(progress.clone().wait_for(|position| *position >= start)).await.expect("progress");
        }
        proxy.cut_connections();
    }

    for (following, _) in followers {
        assert_eq!(with_timeout(following).await.expect("no panic"), (1..=800).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_that_was_in_flight_when_the_connection_was_cut() {
    for (end, case) in [(60, "more entries follow"), (40, "no entry follows that would reveal the loss")] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
        let followers = filters().map(|filter| follow(journal.clone(), filter, end));
        let direct = server.journal().await;
        append(&direct, &numbered(1..=20)).await;
        for (_, progress) in &followers {
            with_timeout(progress.clone().wait_for(|position| *position >= 20)).await.expect("progress");
        }
        proxy.drop_responses();
        append(&direct, &numbered(21..=40)).await;
        // The proxy receives this response after the records: when the request fails, the records are dropped.
        assert!(try_append(&journal, &[one(1)]).await[0].is_err());
        proxy.cut_connections();
        proxy.forward_responses();
        append(&direct, &numbered(41..=end)).await;

        for (following, _) in followers {
            assert_eq!(
                with_timeout(following).await.expect("no panic"),
                (1..=end).collect::<Vec<_>>(),
                "{case}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_reader_loses_nothing_that_was_in_flight_when_the_connection_was_cut() {
    for filter in filters() {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
        append(&server.journal().await, &numbered(1..=2_000)).await;
        let mut records =
            journal.read(filter.clone(), Position::START, Until::Position(Position::new(2_000)));
        let mut found = next_positions(&mut records, 100).await;
        proxy.drop_responses();
        assert!(try_append(&journal, &[one(1)]).await[0].is_err());
        proxy.cut_connections();
        proxy.forward_responses();

        // The reader ends at its bound or with an error; it has delivered everything up to there.
        while let Some(Ok(record)) = with_timeout(records.next()).await {
            found.push(record.position().get());
        }
        let last = found.last().copied().unwrap_or(0);
        found.extend(positions(&read(&server.journal().await, filter, last, 2_000).await));
        assert_eq!(found, (1..=2_000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_an_operator_deletes_their_consumers() {
    let server = Server::start().await;
    let journal = server.journal().await;
    let followers = filters().map(|filter| follow(journal.clone(), filter, 40));
    append(&journal, &numbered(1..=20)).await;
    for (_, progress) in &followers {
        with_timeout(progress.clone().wait_for(|position| *position >= 20)).await.expect("progress");
    }
    let stream = server.raw().await.get_stream(STREAM).await.expect("a stream");
    let consumers: Vec<_> = stream.consumer_names().collect().await;
    for consumer in consumers {
        stream.delete_consumer(&consumer.expect("a name")).await.expect("deleted");
    }
    append(&journal, &numbered(21..=40)).await;

    for (following, _) in followers {
        assert_eq!(with_timeout(following).await.expect("no panic"), (1..=40).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_reader_ends_after_its_error() {
    let mut server = Server::start().await;
    let journal = journal_with_timeout(server.settings(), REQUEST_TIMEOUT).await;
    append(&journal, &numbered(1..=3)).await;
    server.kill().await;

    let bounded = journal.read(SubjectFilter::All, Position::START, Until::Position(Position::new(3)));
    let forever = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    for records in [bounded, forever] {
        let records: Vec<_> = with_timeout(records.collect()).await;
        assert_eq!(records.len(), 1);
        assert!(records[0].is_err(), "{records:?}");
    }
    assert!(journal.head().await.is_err());
    assert!(journal.entry(Position::new(1)).await.is_err());
}
