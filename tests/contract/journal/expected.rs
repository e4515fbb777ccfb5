//! Appending at an expected head: the entry is recorded right after it or not at all.

use std::collections::HashSet;

use ledger_domain::Position;
use ledger_journal::{AppendError, NewEntry, Outcome, SharedJournal};

use super::fixture::Fixture;
use super::helpers::{append, assert_holds, at, contents, recorded_at, try_append_at};
use super::submissions::{altered, numbered, of_service, one, with_bytes};

for_every_journal!(
    an_append_at_the_current_head_is_recorded_at_the_next_position,
    the_head_of_an_empty_journal_is_the_start,
    an_append_at_an_old_head_is_rejected,
    a_rejected_append_succeeds_at_the_new_head,
    an_append_at_a_future_head_is_rejected,
    a_repeated_append_at_the_same_head_is_a_duplicate,
    a_repeated_append_at_a_later_head_is_a_duplicate,
    different_content_at_the_same_head_is_a_conflict,
    different_content_at_a_later_head_is_a_conflict,
    a_known_identity_at_an_old_head_is_not_recorded_again,
    of_concurrent_appends_at_the_same_head_one_is_recorded,
    concurrent_appends_of_one_event_at_the_same_head_record_it_once,
    concurrent_appends_of_one_identity_with_different_content_record_one,
    an_append_at_a_head_never_overlooks_a_concurrent_append,
    an_append_at_a_head_before_a_gap_is_rejected,
);
for_three_nodes!(
    an_append_at_a_future_head_is_rejected,
    a_repeated_append_at_the_same_head_is_a_duplicate,
    of_concurrent_appends_at_the_same_head_one_is_recorded,
    an_append_at_a_head_never_overlooks_a_concurrent_append,
    an_append_at_a_head_before_a_gap_is_rejected,
);

fn is_wrong_head(result: &Result<Outcome, AppendError>) -> bool {
    matches!(result, Err(AppendError::WrongHead(_)))
}

/// Appends all entries concurrently at the same head, through both handles of a journal.
async fn append_concurrently(
    fixture: &impl Fixture,
    new_entries: &[NewEntry],
    head: Position,
) -> Vec<Result<Outcome, AppendError>> {
    let journals = [fixture.journal(), fixture.other().await];
    let tasks = new_entries.iter().cloned().enumerate().map(|(index, new_entry)| {
        let journal: SharedJournal = journals[index % 2].clone();
        tokio::spawn(async move { try_append_at(&journal, &new_entry, head).await })
    });
    futures::future::try_join_all(tasks).await.expect("no panic")
}

async fn an_append_at_the_current_head_is_recorded_at_the_next_position(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    for number in 4..=30 {
        let result = try_append_at(&journal, &one(number), at(number - 1)).await;
        assert_eq!(result, Ok(Outcome::Recorded(at(number))));
        assert_eq!(fixture.journal().head().await.expect("a head").position, at(number));
    }

    assert_eq!(append(&journal, &numbered(31..=33)).await, recorded_at(31..=33));
    assert_holds(&fixture.other().await, &numbered(1..=33)).await;
}

async fn the_head_of_an_empty_journal_is_the_start(fixture: impl Fixture) {
    let journal = fixture.journal();

    assert_eq!(try_append_at(&journal, &one(1), Position::START).await, Ok(Outcome::Recorded(at(1))));
    let second = try_append_at(&journal, &one(2), Position::START).await;

    assert!(is_wrong_head(&second), "{second:?}");
    assert_holds(&journal, &[one(1)]).await;
}

async fn an_append_at_an_old_head_is_rejected(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    append(&fixture.other().await, &[of_service("staging", "other", 4)]).await;

    for head in [3, 2, 0] {
        let result = try_append_at(&journal, &one(5), at(head)).await;
        assert!(is_wrong_head(&result), "{head}: {result:?}");
    }

    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn a_rejected_append_succeeds_at_the_new_head(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    append(&journal, &[one(4)]).await;

    let first = try_append_at(&journal, &one(5), at(3)).await;
    let head = journal.head().await.expect("a head").position;
    let second = try_append_at(&journal, &one(5), head).await;

    assert!(is_wrong_head(&first), "{first:?}");
    assert_eq!(second, Ok(Outcome::Recorded(at(5))));
    assert_holds(&journal, &numbered(1..=5)).await;
}

async fn an_append_at_a_future_head_is_rejected(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    let result = try_append_at(&journal, &one(4), at(7)).await;

    assert!(is_wrong_head(&result), "{result:?}");
    append(&journal, &numbered(5..=12)).await;
    assert_holds(&journal, &numbered((1..=3).chain(5..=12))).await;
}

async fn a_repeated_append_at_the_same_head_is_a_duplicate(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");
    let other = fixture.other().await;

    assert_eq!(try_append_at(&other, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));
    append(&journal, &numbered(5..=9)).await;
    assert_eq!(try_append_at(&journal, &one(4), at(3)).await, Ok(Outcome::Duplicate(at(4))));

    assert_holds(&journal, &numbered(1..=9)).await;
}

async fn a_repeated_append_at_a_later_head_is_a_duplicate(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    assert_eq!(try_append_at(&journal, &one(2), at(3)).await, Ok(Outcome::Duplicate(at(2))));
    assert_eq!(try_append_at(&journal, &one(3), at(3)).await, Ok(Outcome::Duplicate(at(3))));

    assert_holds(&journal, &numbered(1..=3)).await;
}

async fn different_content_at_the_same_head_is_a_conflict(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    try_append_at(&journal, &one(4), at(3)).await.expect("an outcome");

    let result = try_append_at(&fixture.other().await, &altered(&one(4)), at(3)).await;

    assert_eq!(result, Ok(Outcome::Conflict(at(4))));
    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn different_content_at_a_later_head_is_a_conflict(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    assert_eq!(try_append_at(&journal, &altered(&one(2)), at(3)).await, Ok(Outcome::Conflict(at(2))));

    assert_holds(&journal, &numbered(1..=3)).await;
}

/// The result depends on the journal: the identity is either found or not checked.
async fn a_known_identity_at_an_old_head_is_not_recorded_again(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5)).await;

    let result = try_append_at(&journal, &one(2), at(3)).await;

    assert!(is_wrong_head(&result) || result == Ok(Outcome::Duplicate(at(2))), "{result:?}");
    assert_holds(&journal, &numbered(1..=5)).await;
}

async fn of_concurrent_appends_at_the_same_head_one_is_recorded(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    let mut expected = numbered(1..=3);

    for round in 0..10 {
        let head = at(3 + round);
        let candidates = numbered(100 * (round + 1)..100 * (round + 1) + 64);
        let results = append_concurrently(&fixture, &candidates, head).await;

        let (winners, others): (Vec<_>, Vec<_>) =
            candidates.into_iter().zip(results).partition(|(_, result)| result.is_ok());
        let [(winner, recorded)] = &winners[..] else { panic!("not one winner: {winners:?}") };
        assert_eq!(*recorded, Ok(Outcome::Recorded(head.next())));
        assert!(others.iter().all(|(_, result)| is_wrong_head(result)), "{others:?}");
        expected.push(winner.clone());
    }
    assert_holds(&journal, &expected).await;
}

async fn concurrent_appends_of_one_event_at_the_same_head_record_it_once(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    let results = append_concurrently(&fixture, &vec![one(4); 64], at(3)).await;

    let (recorded, others): (Vec<_>, Vec<_>) =
        results.into_iter().partition(|result| *result == Ok(Outcome::Recorded(at(4))));
    assert_eq!(recorded.len(), 1);
    assert_eq!(others, vec![Ok(Outcome::Duplicate(at(4))); 63]);
    assert_holds(&journal, &numbered(1..=4)).await;
}

async fn concurrent_appends_of_one_identity_with_different_content_record_one(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    let contents: Vec<_> = (0..64).map(|task| with_bytes(&one(4), format!("of task {task}"))).collect();

    let results = append_concurrently(&fixture, &contents, at(3)).await;

    let (recorded, others): (Vec<_>, Vec<_>) =
        contents.into_iter().zip(results).partition(|(_, result)| *result == Ok(Outcome::Recorded(at(4))));
    let [(winner, _)] = &recorded[..] else { panic!("not one winner: {recorded:?}") };
    assert!(others.iter().all(|(_, result)| *result == Ok(Outcome::Conflict(at(4)))), "{others:?}");
    assert_holds(&journal, &[numbered(1..=3), vec![winner.clone()]].concat()).await;
}

/// One task appends at the head that it read, another appends without an expected head.
async fn an_append_at_a_head_never_overlooks_a_concurrent_append(fixture: impl Fixture) {
    let (journal, other) = (fixture.journal(), fixture.other().await);
    let appending = tokio::spawn(async move {
        for call in 0..100 {
            append(&other, &numbered(10_000 + call * 3..10_003 + call * 3)).await;
        }
    });

    let mut at_head = HashSet::new();
    for number in 0..100 {
        loop {
            let head = journal.head().await.expect("a head").position;
            let result = try_append_at(&journal, &one(number), head).await;
            if !is_wrong_head(&result) {
                assert_eq!(result, Ok(Outcome::Recorded(head.next())));
                at_head.insert(one(number).bytes);
                break;
            }
        }
    }
    appending.await.expect("no panic");

    let entries = contents(&journal).await;
    assert_eq!(entries.len(), 400);
    assert_eq!(entries.into_iter().filter(|entry| at_head.contains(&entry.bytes)).count(), 100);
}

async fn an_append_at_a_head_before_a_gap_is_rejected(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5)).await;
    fixture.delete_first(4).await;

    let result = try_append_at(&journal, &one(6), at(3)).await;

    assert!(is_wrong_head(&result), "{result:?}");
    assert_eq!(try_append_at(&journal, &one(6), at(5)).await, Ok(Outcome::Recorded(at(6))));
}
