//! An append at an expected end whose answer is lost: the one place where it can be tells what became of it.

use std::time::Duration;

use futures::StreamExt;
use ledger_journal::{AppendError, Outcome, SharedJournal};
use ledger_tests::{Proxy, STREAM};
use tokio::task::JoinHandle;

use crate::journal::new_entries::{altered, numbered, one};
use crate::journal::reading::{append, assert_holds, at, patiently, try_append_at};
use crate::journal::server::{Server, impatient};

/// Long enough for what is answered, short enough to wait for what is not.
const SOON: Duration = Duration::from_millis(700);

/// A server with three entries, and a journal on it behind a proxy.
struct Scene {
    server: Server,
    proxy: Proxy,
    direct: SharedJournal,
    behind: SharedJournal,
}

type Answering = JoinHandle<Result<Outcome, AppendError>>;

impl Scene {
    async fn set() -> Self {
        let server = Server::start().await;
        let proxy = Proxy::start(server.nats().port()).await;
        let behind = impatient(server.settings_through(proxy.port()), SOON).await;
        let direct = server.journal().await;
        append(&direct, &numbered(1..=3)).await;
        Self { server, proxy, direct, behind }
    }

    /// Appends the event 4 at the position 3, behind the proxy that swallows answers, and comes back when
    /// the server has it.
    async fn append_unanswered(&self) -> Answering {
        let raw = self.server.raw().await;
        let subject = one(4).subject.as_str().to_owned();
        let mut heard = raw.client().subscribe(subject).await.expect("subscribed");
        // An answer on the same connection: by then the server listens for us.
        raw.get_stream(STREAM).await.expect("a stream");
        self.proxy.swallow_answers();
        let behind = self.behind.clone();
        let answering = tokio::spawn(async move { try_append_at(&behind, &one(4), at(3)).await });
        patiently(heard.next()).await.expect("a message");
        // Heard is not stored: the stream takes one after the other, and this one only after that.
        append(&self.direct, &[one(1)]).await;
        answering
    }
}

#[tokio::test]
async fn what_was_recorded_and_not_answered_is_found_in_its_place() {
    let scene = Scene::set().await;
    let answering = scene.append_unanswered().await;
    scene.proxy.let_answers_through();

    assert_eq!(patiently(answering).await.expect("no panic"), Ok(Outcome::Recorded(at(4))));

    assert_holds(&scene.direct, &numbered(1..=4)).await;
}

#[tokio::test]
async fn what_was_refused_and_not_answered_has_moved() {
    let scene = Scene::set().await;
    append(&scene.direct, &[one(5)]).await;
    let answering = scene.append_unanswered().await;
    scene.proxy.let_answers_through();

    let answer = patiently(answering).await.expect("no panic");

    assert!(matches!(answer, Err(AppendError::WrongHead(_))), "{answer:?}");
    assert_holds(&scene.direct, &[numbered(1..=3), vec![one(5)]].concat()).await;
}

#[tokio::test]
async fn what_conflicts_and_was_not_answered_is_a_conflict() {
    let scene = Scene::set().await;
    append(&scene.direct, &[altered(&one(4))]).await;
    let answering = scene.append_unanswered().await;
    scene.proxy.let_answers_through();

    assert_eq!(patiently(answering).await.expect("no panic"), Ok(Outcome::Conflict(at(4))));

    assert_holds(&scene.direct, &[numbered(1..=3), vec![altered(&one(4))]].concat()).await;
}

#[tokio::test]
async fn while_nothing_is_answered_nobody_knows_and_given_again_it_is_one_entry() {
    let scene = Scene::set().await;
    let answering = scene.append_unanswered().await;

    let answer = patiently(answering).await.expect("no panic");
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");

    assert_eq!(try_append_at(&scene.direct, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    assert_holds(&scene.direct, &numbered(1..=4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_before_the_answer_leaves_one_entry() {
    let scene = Scene::set().await;
    let answering = scene.append_unanswered().await;
    scene.proxy.cut();
    scene.proxy.let_answers_through();

    // Given up where there is no connection yet, looked up where there is one again.
    let answer = patiently(answering).await.expect("no panic");
    assert!(
        matches!(answer, Ok(Outcome::Recorded(place)) if place == at(4))
            || matches!(answer, Err(AppendError::Unavailable(_))),
        "{answer:?}"
    );

    assert_eq!(try_append_at(&scene.direct, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    assert_holds(&scene.direct, &numbered(1..=4)).await;
}

#[tokio::test]
async fn what_a_halted_server_stores_later_stands_in_its_place_or_nowhere() {
    let scene = Scene::set().await;
    scene.server.nats().pause().await;

    let answer = try_append_at(&scene.behind, &one(4), at(3)).await;
    // The server finds both in its sockets: the ghost of what was given up, and what came after it.
    let direct = scene.direct.clone();
    let later = tokio::spawn(async move { append(&direct, &[one(5)]).await });
    scene.server.nats().resume();
    patiently(later).await.expect("no panic");

    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    match try_append_at(&scene.behind, &one(4), at(3)).await {
        Ok(Outcome::Duplicate(place)) if place == at(4) => {
            assert_holds(&scene.direct, &numbered(1..=5)).await;
        }
        Err(AppendError::WrongHead(_)) => {
            assert_holds(&scene.direct, &[numbered(1..=3), vec![one(5)]].concat()).await;
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn while_the_server_is_down_nothing_is_known_and_nothing_recorded() {
    let mut scene = Scene::set().await;
    scene.server.kill().await;

    let answer = try_append_at(&scene.behind, &one(4), at(3)).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");

    scene.server.start_again().await;
    let journal = scene.server.journal().await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");
    assert_holds(&journal, &numbered(1..=4)).await;
}
