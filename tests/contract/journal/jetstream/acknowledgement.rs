//! An acknowledgement that is lost or late: the journal does not know, and never records twice.

use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::{AppendError, Outcome, SubjectFilter, Until};
use ledger_tests::Proxy;

use crate::journal::new_entries::numbered;
use crate::journal::reading::{append, assert_holds, duplicate_of, next_positions, patiently, try_append};
use crate::journal::server::{Server, impatient};

/// Long enough for what is answered, short enough to wait for what is not.
const SOON: Duration = Duration::from_millis(700);

/// Waits until a journal has this many entries, as another sees it.
async fn stored(server: &Server, count: usize) {
    let journal = server.journal().await;
    let mut entries = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut entries, count).await;
}

fn all_unavailable(answers: &[Result<Outcome, AppendError>]) -> bool {
    answers.iter().all(|answer| matches!(answer, Err(AppendError::Unavailable(_))))
}

#[tokio::test]
async fn a_call_whose_acknowledgement_is_lost_is_recorded_once() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = impatient(server.settings_through(proxy.port()), SOON).await;
        proxy.swallow_answers();

        let answers = try_append(&journal, &numbered(1..=count)).await;
        assert!(all_unavailable(&answers), "{answers:?}");
        stored(&server, count as usize).await;

        let again = append(&server.journal().await, &numbered(1..=count)).await;
        assert_eq!(again, duplicate_of(1..=count));
        assert_holds(&server.journal().await, &numbered(1..=count)).await;
    }
}

#[tokio::test]
async fn after_a_batch_whose_outcome_is_unknown_no_other_is_recorded() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = impatient(server.settings_through(proxy.port()), SOON).await;
    proxy.swallow_answers();

    let answers = try_append(&journal, &numbered(1..=2_500)).await;
    assert!(all_unavailable(&answers), "{:?}", answers.iter().find(|answer| answer.is_ok()));
    stored(&server, 1_000).await;

    let direct = server.journal().await;
    assert_holds(&direct, &numbered(1..=1_000)).await;
    append(&direct, &numbered(1..=2_500)).await;
    assert_holds(&direct, &numbered(1..=2_500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unknown_outcome_a_copy_in_the_same_call_is_not_recorded_either() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = impatient(server.settings_through(proxy.port()), SOON).await;
    proxy.swallow_answers();

    let copies = [numbered(1..=20), numbered(20..=20)].concat();
    let answers = try_append(&journal, &copies).await;

    assert!(all_unavailable(&answers), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_whose_outcome_is_unknown_none_is_recorded() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = impatient(server.settings_through(proxy.port()), SOON).await;
    let direct = server.journal().await;
    // A known member in each batch has the others appended one after the other.
    let known = [1_000, 2_000, 3_000];
    append(&direct, &numbered(known)).await;
    let appending = tokio::spawn(async move { try_append(&journal, &numbered(1..=3_000)).await });
    stored(&server, 20).await;
    proxy.swallow_answers();

    let answers = patiently(appending).await.expect("no panic");
    let lost = answers.iter().position(Result::is_err).expect("an answer is lost");
    assert!(all_unavailable(&answers[lost..]), "{answers:?}");
    append(&direct, &numbered(1..=3_000)).await;

    let others = (1..=3_000).filter(|number| !known.contains(number));
    assert_holds(&direct, &numbered(known.into_iter().chain(others))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_before_the_acknowledgement_records_once() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let journal = impatient(server.settings_through(proxy.port()), SOON).await;
        proxy.swallow_answers();

        let appending = tokio::spawn({
            let journal = journal.clone();
            async move { try_append(&journal, &numbered(1..=count)).await }
        });
        stored(&server, count as usize).await;
        proxy.cut();
        proxy.let_answers_through();
        let answers = patiently(appending).await.expect("no panic");

        // Given up, or asked again by the journal itself: never claimed as recorded elsewhere.
        for (number, answer) in (1..).zip(&answers) {
            let right = match answer {
                Ok(outcome) => *outcome == Outcome::Duplicate(Position::new(number)),
                Err(error) => matches!(error, AppendError::Unavailable(_)),
            };
            assert!(right, "{number}: {answer:?}");
        }
        let fresh = server.journal().await;
        assert_eq!(append(&fresh, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_holds(&fresh, &numbered(1..=count)).await;
    }
}

#[tokio::test]
async fn a_journal_goes_on_after_its_connection_was_cut() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.nats().port()).await;
    let journal = impatient(server.settings_through(proxy.port()), SOON).await;
    append(&journal, &numbered(1..=20)).await;
    proxy.cut();

    let going_on = async {
        while try_append(&journal, &numbered(21..=40)).await.iter().any(Result::is_err) {
            tokio::task::yield_now().await;
        }
    };
    patiently(going_on).await;

    assert_holds(&journal, &numbered(1..=40)).await;
}

#[tokio::test]
async fn what_a_halted_server_stores_later_is_recorded_once() {
    for count in [1, 5, 100] {
        let server = Server::start().await;
        let journal = impatient(server.settings(), SOON).await;
        server.nats().pause().await;

        let answers = try_append(&journal, &numbered(1..=count)).await;
        server.nats().resume();

        // The server finds the call in its socket: the ghost of what was given up.
        assert!(all_unavailable(&answers), "{answers:?}");
        stored(&server, count as usize).await;
        assert_eq!(append(&server.journal().await, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_eq!(append(&journal, &numbered(1..=count)).await, duplicate_of(1..=count));
        assert_holds(&journal, &numbered(1..=count)).await;
    }
}
