//! Appending at an expected end: right after it, or not at all.

use std::collections::HashSet;

use ledger_domain::Position;
use ledger_journal::{AppendError, NewEntry, Outcome, SharedJournal};

use super::bench::Bench;
use super::new_entries::{altered, numbered, of_service, one, with_bytes};
use super::reading::{append, assert_holds, at, contents, recorded_at, try_append_at};

for_every_journal!(
    what_is_appended_at_the_end_is_recorded_right_after_it,
    an_empty_journal_ends_at_the_start,
    when_something_came_in_between_nothing_is_recorded,
    what_moved_is_recorded_at_the_new_end,
    a_head_that_is_not_there_yet_is_no_end,
    the_same_event_at_the_same_head_again_is_a_duplicate,
    the_same_event_at_a_later_head_is_a_duplicate_of_the_first,
    other_content_at_the_same_head_is_a_conflict,
    other_content_at_a_later_head_is_a_conflict,
    a_known_identity_at_an_old_head_is_not_recorded_again,
    of_many_at_the_same_head_one_is_recorded,
    of_many_who_give_the_same_event_at_the_same_head_one_records_it,
    of_many_contents_of_one_identity_at_the_same_head_one_is_recorded,
    plain_appends_in_between_are_never_missed,
    where_the_next_entry_is_lost_the_journal_has_moved,
);
for_three_nodes!(
    a_head_that_is_not_there_yet_is_no_end,
    the_same_event_at_the_same_head_again_is_a_duplicate,
    of_many_at_the_same_head_one_is_recorded,
    plain_appends_in_between_are_never_missed,
    where_the_next_entry_is_lost_the_journal_has_moved,
);

fn moved(answer: &Result<Outcome, AppendError>) -> bool {
    matches!(answer, Err(AppendError::WrongHead(_)))
}

/// Appends each at the same head, at the same time, through both ways into a journal.
async fn at_once(
    bench: &impl Bench,
    new_entries: &[NewEntry],
    head: Position,
) -> Vec<Result<Outcome, AppendError>> {
    let journals = [bench.journal(), bench.beside().await];
    let tasks = new_entries.iter().cloned().enumerate().map(|(index, new_entry)| {
        let journal: SharedJournal = journals[index % 2].clone();
        tokio::spawn(async move { try_append_at(&journal, &new_entry, head).await })
    });
    futures::future::try_join_all(tasks).await.expect("no panic")
}

async fn what_is_appended_at_the_end_is_recorded_right_after_it(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;

    for number in 4..=30 {
        let answer = try_append_at(&journal, &one(number), at(number - 1)).await;
        assert_eq!(answer, Ok(Outcome::Recorded(at(number))));
        assert_eq!(bench.journal().head().await.expect("a head").position, at(number));
    }

    assert_eq!(append(&journal, &numbered(31..=33)).await, recorded_at(31..=33));
    assert_holds(&bench.beside().await, &numbered(1..=33)).await;
}

async fn an_empty_journal_ends_at_the_start(bench: impl Bench) {
    let journal = bench.journal();

    assert_eq!(try_append_at(&journal, &one(1), Position::START).await, Ok(Outcome::Recorded(at(1))));
    let second = try_append_at(&journal, &one(2), Position::START).await;

    assert!(moved(&second), "{second:?}");
    assert_holds(&journal, &[one(1)]).await;
}

async fn when_something_came_in_between_nothing_is_recorded(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    append(&bench.beside().await, &[of_service("staging", "other", 4)]).await;

    for head in [3, 2, 0] {
        let answer = try_append_at(&journal, &one(5), at(head)).await;
        assert!(moved(&answer), "{head}: {answer:?}");
    }

    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn what_moved_is_recorded_at_the_new_end(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    append(&journal, &[one(4)]).await;

    let first = try_append_at(&journal, &one(5), at(3)).await;
    let head = journal.head().await.expect("a head").position;
    let second = try_append_at(&journal, &one(5), head).await;

    assert!(moved(&first), "{first:?}");
    assert_eq!(second, Ok(Outcome::Recorded(at(5))));
    assert_holds(&journal, &numbered(1..=5)).await;
}

async fn a_head_that_is_not_there_yet_is_no_end(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;

    let answer = try_append_at(&journal, &one(4), at(7)).await;

    assert!(moved(&answer), "{answer:?}");
    append(&journal, &numbered(5..=12)).await;
    assert_holds(&journal, &numbered((1..=3).chain(5..=12))).await;
}

async fn the_same_event_at_the_same_head_again_is_a_duplicate(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");
    let beside = bench.beside().await;

    assert_eq!(try_append_at(&beside, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    append(&journal, &numbered(5..=9)).await;
    assert_eq!(try_append_at(&journal, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));

    assert_holds(&journal, &numbered(1..=9)).await;
}

async fn the_same_event_at_a_later_head_is_a_duplicate_of_the_first(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;

    assert_eq!(try_append_at(&journal, &one(2), at(3)).await, Ok(Outcome::Duplicate(at(2))));
    assert_eq!(try_append_at(&journal, &one(3), at(3)).await, Ok(Outcome::Duplicate(at(3))));

    assert_holds(&journal, &numbered(1..=3)).await;
}

async fn other_content_at_the_same_head_is_a_conflict(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");

    let answer = try_append_at(&bench.beside().await, &altered(&one(4)), at(3)).await;

    assert_eq!(answer, Ok(Outcome::Conflict(at(4))));
    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn other_content_at_a_later_head_is_a_conflict(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;

    assert_eq!(try_append_at(&journal, &altered(&one(2)), at(3)).await, Ok(Outcome::Conflict(at(2))));

    assert_holds(&journal, &numbered(1..=3)).await;
}

/// Whether it is found or not, there: who judges again finds it in the history.
async fn a_known_identity_at_an_old_head_is_not_recorded_again(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=5)).await;

    let answer = try_append_at(&journal, &one(2), at(3)).await;

    assert!(moved(&answer) || answer == Ok(Outcome::Duplicate(at(2))), "{answer:?}");
    assert_holds(&journal, &numbered(1..=5)).await;
}

async fn of_many_at_the_same_head_one_is_recorded(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    let mut expected = numbered(1..=3);

    for round in 0..10 {
        let head = at(3 + round);
        let contestants = numbered(100 * (round + 1)..100 * (round + 1) + 64);
        let answers = at_once(&bench, &contestants, head).await;

        let (winners, others): (Vec<_>, Vec<_>) =
            contestants.into_iter().zip(answers).partition(|(_, answer)| answer.is_ok());
        let [(winner, recorded)] = &winners[..] else { panic!("not one winner: {winners:?}") };
        assert_eq!(*recorded, Ok(Outcome::Recorded(head.next())));
        assert!(others.iter().all(|(_, answer)| moved(answer)), "{others:?}");
        expected.push(winner.clone());
    }
    assert_holds(&journal, &expected).await;
}

async fn of_many_who_give_the_same_event_at_the_same_head_one_records_it(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;

    let answers = at_once(&bench, &vec![one(4); 64], at(3)).await;

    let (recorded, others): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| *answer == Ok(Outcome::Recorded(at(4))));
    assert_eq!(recorded.len(), 1);
    assert_eq!(others, vec![Ok(Outcome::Duplicate(at(4))); 63]);
    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn of_many_contents_of_one_identity_at_the_same_head_one_is_recorded(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=3)).await;
    let contents: Vec<_> = (0..64).map(|task| with_bytes(&one(4), format!("of task {task}"))).collect();

    let answers = at_once(&bench, &contents, at(3)).await;

    let (recorded, others): (Vec<_>, Vec<_>) =
        contents.into_iter().zip(answers).partition(|(_, answer)| *answer == Ok(Outcome::Recorded(at(4))));
    let [(winner, _)] = &recorded[..] else { panic!("not one winner: {recorded:?}") };
    assert!(others.iter().all(|(_, answer)| *answer == Ok(Outcome::Conflict(at(4)))), "{others:?}");
    assert_holds(&journal, &[numbered(1..=3), vec![winner.clone()]].concat()).await;
}

/// One who judges and appends at the end that it saw, beside one who only appends.
async fn plain_appends_in_between_are_never_missed(bench: impl Bench) {
    let (journal, beside) = (bench.journal(), bench.beside().await);
    let plain = tokio::spawn(async move {
        for call in 0..100 {
            append(&beside, &numbered(10_000 + call * 3..10_003 + call * 3)).await;
        }
    });

    let mut judged = HashSet::new();
    for number in 0..100 {
        loop {
            let head = journal.head().await.expect("a head").position;
            let answer = try_append_at(&journal, &one(number), head).await;
            if !moved(&answer) {
                assert_eq!(answer, Ok(Outcome::Recorded(head.next())));
                judged.insert(one(number).bytes);
                break;
            }
        }
    }
    plain.await.expect("no panic");

    let entries = contents(&journal).await;
    assert_eq!(entries.len(), 400);
    assert_eq!(entries.into_iter().filter(|entry| judged.contains(&entry.bytes)).count(), 100);
}

async fn where_the_next_entry_is_lost_the_journal_has_moved(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=5)).await;
    bench.lose_first(4).await;

    let answer = try_append_at(&journal, &one(6), at(3)).await;

    assert!(moved(&answer), "{answer:?}");
    assert_eq!(try_append_at(&journal, &one(6), at(5)).await, Ok(Outcome::Recorded(at(6))));
}
