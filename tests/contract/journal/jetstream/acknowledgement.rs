//! Lost and late acknowledgements: the outcome is unknown, and nothing is recorded twice.

use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::{AppendError, Outcome, SubjectFilter, Until};
use ledger_tests::Proxy;

use crate::journal::helpers::{append, assert_holds, duplicate_of, next_positions, try_append, with_timeout};
use crate::journal::server::{Server, journal_with_timeout};
use crate::journal::submissions::numbered;

/// Long enough for a response, short enough to wait for one that never comes.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(700);

/// Waits until a journal has this many entries, read through another connection.
async fn wait_for_entries(server: &Server, count: usize) {
    let journal = server.journal().await;
    let mut entries = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut entries, count).await;
}

fn all_unavailable(results: &[Result<Outcome, AppendError>]) -> bool {
    results.iter().all(|result| matches!(result, Err(AppendError::Unavailable(_))))
}

#[tokio::test]
async fn a_batch_whose_acknowledgement_is_lost_is_recorded_once() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
        proxy.drop_responses();

        let results = try_append(&journal, &numbered(1..=count)).await;
        assert!(all_unavailable(&results), "{results:?}");
        wait_for_entries(&server, count as usize).await;

        let again = append(&server.journal().await, &numbered(1..=count)).await;
        assert_eq!(again, duplicate_of(1..=count));
        assert_holds(&server.journal().await, &numbered(1..=count)).await;
    }
}

#[tokio::test]
async fn no_batch_is_recorded_after_one_with_an_unknown_outcome() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
    proxy.drop_responses();

    let results = try_append(&journal, &numbered(1..=2_500)).await;
    assert!(all_unavailable(&results), "{:?}", results.iter().find(|result| result.is_ok()));
    wait_for_entries(&server, 1_000).await;

    let direct = server.journal().await;
    assert_holds(&direct, &numbered(1..=1_000)).await;
    append(&direct, &numbered(1..=2_500)).await;
    assert_holds(&direct, &numbered(1..=2_500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unknown_outcome_a_repetition_in_the_same_append_is_unavailable() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
    proxy.drop_responses();

    let copies = [numbered(1..=20), numbered(20..=20)].concat();
    let results = try_append(&journal, &copies).await;

    assert!(all_unavailable(&results), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_recorded_after_one_with_an_unknown_outcome() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
    let direct = server.journal().await;
    // A known event in each batch makes the journal append the others one by one.
    let known = [1_000, 2_000, 3_000];
    append(&direct, &numbered(known)).await;
    let appending = tokio::spawn(async move { try_append(&journal, &numbered(1..=3_000)).await });
    wait_for_entries(&server, 20).await;
    proxy.drop_responses();

    let results = with_timeout(appending).await.expect("no panic");
    let lost = results.iter().position(Result::is_err).expect("a response is lost");
    assert!(all_unavailable(&results[lost..]), "{results:?}");
    append(&direct, &numbered(1..=3_000)).await;

    let others = (1..=3_000).filter(|number| !known.contains(number));
    assert_holds(&direct, &numbered(known.into_iter().chain(others))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_recorded_once_if_the_connection_is_cut_before_its_acknowledgement() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
        proxy.drop_responses();

        let appending = tokio::spawn({
            let journal = journal.clone();
            async move { try_append(&journal, &numbered(1..=count)).await }
        });
        wait_for_entries(&server, count as usize).await;
        proxy.cut_connections();
        proxy.forward_responses();
        let results = with_timeout(appending).await.expect("no panic");

        // The journal either gives up or retries and finds each event's duplicate at its position.
        for (number, result) in (1..).zip(&results) {
            let right = match result {
                Ok(outcome) => *outcome == Outcome::Duplicate(Position::new(number)),
                Err(error) => matches!(error, AppendError::Unavailable(_)),
            };
            assert!(right, "{number}: {result:?}");
        }
        let fresh = server.journal().await;
        assert_eq!(append(&fresh, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_holds(&fresh, &numbered(1..=count)).await;
    }
}

#[tokio::test]
async fn a_journal_recovers_after_its_connection_was_cut() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
    append(&journal, &numbered(1..=20)).await;
    proxy.cut_connections();

    let recovered = async {
        while try_append(&journal, &numbered(21..=40)).await.iter().any(Result::is_err) {
            tokio::task::yield_now().await;
        }
    };
    with_timeout(recovered).await;

    assert_holds(&journal, &numbered(1..=40)).await;
}

#[tokio::test]
async fn a_batch_that_a_paused_server_stores_later_is_recorded_once() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let journal = journal_with_timeout(server.settings(), REQUEST_TIMEOUT).await;
        server.nats().pause().await;

        let results = try_append(&journal, &numbered(1..=count)).await;
        server.nats().resume();

        // The server finds the abandoned batch in its socket and stores it.
        assert!(all_unavailable(&results), "{results:?}");
        wait_for_entries(&server, count as usize).await;
        assert_eq!(append(&server.journal().await, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_eq!(append(&journal, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_holds(&journal, &numbered(1..=count)).await;
    }
}
