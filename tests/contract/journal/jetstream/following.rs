//! A reader whose server or connection goes away: it goes on, or ends with an error after which one
//! who reads again from the last position loses nothing and gets nothing twice.

use std::time::Duration;

use futures::StreamExt;
use ledger_domain::Position;
use ledger_journal::{SharedJournal, SubjectFilter, Until};
use ledger_tests::{Proxy, STREAM};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::journal::new_entries::{in_environment, in_service, numbered, one};
use crate::journal::reading::{append, next_positions, patiently, positions, read, try_append};
use crate::journal::server::{Server, impatient};

/// How long a reader waits for an answer: these tests wait for that too.
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows a journal as those do who depend on it, and tells how far it has come. Its result is all
/// positions in the order in which they came.
fn follow(
    journal: SharedJournal,
    scope: SubjectFilter,
    end: u64,
) -> (JoinHandle<Vec<u64>>, watch::Receiver<u64>) {
    let (tell, told) = watch::channel(0);
    let following = async move {
        let mut found: Vec<u64> = Vec::new();
        loop {
            let last = found.last().copied().unwrap_or(0);
            let mut records = journal.read(scope.clone(), Position::new(last), Until::Forever);
            while let Some(Ok(record)) = records.next().await {
                found.push(record.position().get());
                tell.send_replace(record.position().get());
                if record.position().get() == end {
                    return found;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    (tokio::spawn(following), told)
}

fn scopes() -> [SubjectFilter; 3] {
    [SubjectFilter::All, in_environment("production"), in_service("production", "web")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_the_server_is_killed_and_comes_back() {
    let mut server = Server::start().await;
    let journal = impatient(server.settings(), PATIENCE).await;
    let followers = scopes().map(|scope| follow(journal.clone(), scope, 1_300));
    append(&journal, &numbered(1..=1_200)).await;
    for (_, told) in &followers {
        patiently(told.clone().wait_for(|position| *position >= 700)).await.expect("it goes on");
    }
    server.kill().await;
    server.start_again().await;
    append(&server.journal().await, &numbered(1_201..=1_300)).await;

    for (following, _) in followers {
        assert_eq!(patiently(following).await.expect("no panic"), (1..=1_300).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_the_connection_is_cut_again_and_again() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = impatient(server.settings_through(proxy.port()), PATIENCE).await;
    let followers = scopes().map(|scope| follow(journal.clone(), scope, 800));
    let direct = server.journal().await;
    for start in [1, 201, 401, 601] {
        append(&direct, &numbered(start..start + 200)).await;
        for (_, told) in &followers {
            patiently(told.clone().wait_for(|position| *position >= start)).await.expect("it goes on");
        }
        proxy.cut();
    }

    for (following, _) in followers {
        assert_eq!(patiently(following).await.expect("no panic"), (1..=800).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_that_was_on_its_way_when_the_connection_was_cut() {
    for (end, case) in [(60, "more follows"), (40, "nothing follows that would show the loss")] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = impatient(server.settings_through(proxy.port()), PATIENCE).await;
        let followers = scopes().map(|scope| follow(journal.clone(), scope, end));
        let direct = server.journal().await;
        append(&direct, &numbered(1..=20)).await;
        for (_, told) in &followers {
            patiently(told.clone().wait_for(|position| *position >= 20)).await.expect("it goes on");
        }
        proxy.swallow_answers();
        append(&direct, &numbered(21..=40)).await;
        // Asked through the proxy, and answered there after what the readers were sent.
        assert!(try_append(&journal, &[one(1)]).await[0].is_err());
        proxy.cut();
        proxy.let_answers_through();
        append(&direct, &numbered(41..=end)).await;

        for (following, _) in followers {
            assert_eq!(
                patiently(following).await.expect("no panic"),
                (1..=end).collect::<Vec<_>>(),
                "{case}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_reader_loses_nothing_that_was_on_its_way_when_the_connection_was_cut() {
    for scope in scopes() {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = impatient(server.settings_through(proxy.port()), PATIENCE).await;
        append(&server.journal().await, &numbered(1..=2_000)).await;
        let mut records = journal.read(scope.clone(), Position::START, Until::Position(Position::new(2_000)));
        let mut found = next_positions(&mut records, 100).await;
        proxy.swallow_answers();
        assert!(try_append(&journal, &[one(1)]).await[0].is_err());
        proxy.cut();
        proxy.let_answers_through();

        // To its end or to an error: up to there, all has come.
        while let Some(Ok(record)) = patiently(records.next()).await {
            found.push(record.position().get());
        }
        let last = found.last().copied().unwrap_or(0);
        found.extend(positions(&read(&server.journal().await, scope, last, 2_000).await));
        assert_eq!(found, (1..=2_000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_when_an_operator_deletes_their_consumers() {
    let server = Server::start().await;
    let journal = server.journal().await;
    let followers = scopes().map(|scope| follow(journal.clone(), scope, 40));
    append(&journal, &numbered(1..=20)).await;
    for (_, told) in &followers {
        patiently(told.clone().wait_for(|position| *position >= 20)).await.expect("it goes on");
    }
    let stream = server.raw().await.get_stream(STREAM).await.expect("a stream");
    let consumers: Vec<_> = stream.consumer_names().collect().await;
    for consumer in consumers {
        stream.delete_consumer(&consumer.expect("a name")).await.expect("deleted");
    }
    append(&journal, &numbered(21..=40)).await;

    for (following, _) in followers {
        assert_eq!(patiently(following).await.expect("no panic"), (1..=40).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_reader_ends_after_its_error() {
    let mut server = Server::start().await;
    let journal = impatient(server.settings(), PATIENCE).await;
    append(&journal, &numbered(1..=3)).await;
    server.kill().await;

    let bounded = journal.read(SubjectFilter::All, Position::START, Until::Position(Position::new(3)));
    let forever = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    for records in [bounded, forever] {
        let records: Vec<_> = patiently(records.collect()).await;
        assert_eq!(records.len(), 1);
        assert!(records[0].is_err(), "{records:?}");
    }
    assert!(journal.head().await.is_err());
    assert!(journal.entry(Position::new(1)).await.is_err());
}
