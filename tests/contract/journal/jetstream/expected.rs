//! Appends at an expected head with a lost response: the journal looks the outcome up at the expected position.

use std::time::Duration;

use futures::StreamExt;
use ledger_journal::{AppendError, Outcome, SharedJournal};
use ledger_tests::{Proxy, STREAM};
use tokio::task::JoinHandle;

use crate::journal::helpers::{append, assert_holds, at, try_append_at, with_timeout};
use crate::journal::server::{Server, journal_with_timeout};
use crate::journal::submissions::{altered, numbered, one};

/// Long enough for a response, short enough to wait for one that never comes.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(700);

/// A server with three entries, and two journals on it: one connected directly, one through a proxy.
struct Setup {
    server: Server,
    proxy: Proxy,
    direct: SharedJournal,
    proxied: SharedJournal,
}

type PendingAppend = JoinHandle<Result<Outcome, AppendError>>;

impl Setup {
    async fn start() -> Self {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let proxied = journal_with_timeout(server.settings_through(proxy.port()), REQUEST_TIMEOUT).await;
        let direct = server.journal().await;
        append(&direct, &numbered(1..=3)).await;
        Self { server, proxy, direct, proxied }
    }

    /// Appends event 4 at position 3 through the proxy, which drops responses, and returns when the server has
    /// processed it.
    async fn append_without_response(&self) -> PendingAppend {
        let raw = self.server.raw().await;
        let subject = one(4).subject.as_str().to_owned();
        let mut messages = raw.client().subscribe(subject).await.expect("subscribed");
        // A response on the same connection proves that the server has processed the subscription.
        raw.get_stream(STREAM).await.expect("a stream");
        self.proxy.drop_responses();
        let proxied = self.proxied.clone();
        let pending = tokio::spawn(async move { try_append_at(&proxied, &one(4), at(3)).await });
        with_timeout(messages.next()).await.expect("a message");
        // A delivered message is not yet stored. The stream processes messages in order: when this duplicate is
        // acknowledged, the message before it has been processed.
        append(&self.direct, &[one(1)]).await;
        pending
    }
}

#[tokio::test]
async fn a_recorded_append_without_a_response_is_found_at_its_position() {
    let setup = Setup::start().await;
    let pending = setup.append_without_response().await;
    setup.proxy.forward_responses();

    assert_eq!(with_timeout(pending).await.expect("no panic"), Ok(Outcome::Recorded(at(4))));

    assert_holds(&setup.direct, &numbered(1..=4)).await;
}

#[tokio::test]
async fn a_rejected_append_without_a_response_reports_the_wrong_head() {
    let setup = Setup::start().await;
    append(&setup.direct, &[one(5)]).await;
    let pending = setup.append_without_response().await;
    setup.proxy.forward_responses();

    let result = with_timeout(pending).await.expect("no panic");

    assert!(matches!(result, Err(AppendError::WrongHead(_))), "{result:?}");
    assert_holds(&setup.direct, &[numbered(1..=3), vec![one(5)]].concat()).await;
}

#[tokio::test]
async fn a_conflicting_append_without_a_response_is_a_conflict() {
    let setup = Setup::start().await;
    append(&setup.direct, &[altered(&one(4))]).await;
    let pending = setup.append_without_response().await;
    setup.proxy.forward_responses();

    assert_eq!(with_timeout(pending).await.expect("no panic"), Ok(Outcome::Conflict(at(4))));

    assert_holds(&setup.direct, &[numbered(1..=3), vec![altered(&one(4))]].concat()).await;
}

#[tokio::test]
async fn an_append_with_an_unknown_outcome_is_one_entry_when_repeated() {
    let setup = Setup::start().await;
    let pending = setup.append_without_response().await;

    let result = with_timeout(pending).await.expect("no panic");
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");

    assert_eq!(try_append_at(&setup.direct, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    assert_holds(&setup.direct, &numbered(1..=4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_before_the_response_leaves_one_entry() {
    let setup = Setup::start().await;
    let pending = setup.append_without_response().await;
    setup.proxy.cut_connections();
    setup.proxy.forward_responses();

    // The journal gives up if it is still disconnected, and looks the outcome up if it is connected again.
    let result = with_timeout(pending).await.expect("no panic");
    assert!(
        matches!(result, Ok(Outcome::Recorded(place)) if place == at(4))
            || matches!(result, Err(AppendError::Unavailable(_))),
        "{result:?}"
    );

    assert_eq!(try_append_at(&setup.direct, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    assert_holds(&setup.direct, &numbered(1..=4)).await;
}

#[tokio::test]
async fn an_append_that_a_paused_server_stores_later_is_at_its_position_or_nowhere() {
    let setup = Setup::start().await;
    setup.server.nats().pause().await;

    let result = try_append_at(&setup.proxied, &one(4), at(3)).await;
    // The server finds both in its sockets: the abandoned append and the one after it.
    let direct = setup.direct.clone();
    let later = tokio::spawn(async move { append(&direct, &[one(5)]).await });
    setup.server.nats().resume();
    with_timeout(later).await.expect("no panic");

    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    match try_append_at(&setup.proxied, &one(4), at(3)).await {
        Ok(Outcome::Duplicate(place)) if place == at(4) => {
            assert_holds(&setup.direct, &numbered(1..=5)).await;
        }
        Err(AppendError::WrongHead(_)) => {
            assert_holds(&setup.direct, &[numbered(1..=3), vec![one(5)]].concat()).await;
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn while_the_server_is_down_an_append_is_unavailable_and_not_recorded() {
    let mut setup = Setup::start().await;
    setup.server.kill().await;

    let result = try_append_at(&setup.proxied, &one(4), at(3)).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");

    setup.server.restart().await;
    let journal = setup.server.journal().await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");
    assert_holds(&journal, &numbered(1..=4)).await;
}
