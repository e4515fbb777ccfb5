//! An identity is recorded once, regardless of the number of attempts, their sender and their content.

use std::collections::HashMap;

use ledger_domain::IdentityKey;
use ledger_journal::{Entry, NewEntry, Outcome, SharedJournal};

use super::fixture::Fixture;
use super::helpers::{append, assert_holds, at, contents, duplicate_of, recorded_at};
use super::submissions::{altered, numbered, of_service, one, with_bytes};

for_every_journal!(
    a_repeated_event_is_a_duplicate,
    the_same_identity_with_different_content_is_a_conflict,
    the_subject_is_not_part_of_the_identity,
    repetitions_within_a_batch_have_the_same_outcomes_as_in_a_later_batch,
    repetitions_within_a_large_batch_keep_the_order_of_the_other_events,
    one_duplicate_in_a_batch_does_not_affect_the_other_events,
    a_repeated_batch_records_nothing,
    concurrent_appends_record_each_identity_once,
    concurrent_appends_with_different_content_record_one,
);
for_three_nodes!(
    repetitions_within_a_batch_have_the_same_outcomes_as_in_a_later_batch,
    one_duplicate_in_a_batch_does_not_affect_the_other_events,
    concurrent_appends_record_each_identity_once,
    concurrent_appends_with_different_content_record_one,
);

async fn a_repeated_event_is_a_duplicate(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=10)).await;

    assert_eq!(append(&journal, &[one(3)]).await, duplicate_of([3]));
    assert_eq!(append(&fixture.other().await, &[one(10)]).await, duplicate_of([10]));

    assert_holds(&journal, &numbered(1..=10)).await;
}

async fn the_same_identity_with_different_content_is_a_conflict(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=10)).await;

    let outcomes = append(&journal, &[altered(&one(3)), one(11), with_bytes(&one(10), "")]).await;

    assert_eq!(outcomes, [Outcome::Conflict(at(3)), Outcome::Recorded(at(11)), Outcome::Conflict(at(10))]);
    assert_holds(&journal, &numbered(1..=11)).await;
}

async fn the_subject_is_not_part_of_the_identity(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &[of_service("production", "web", 1)]).await;

    let elsewhere = [of_service("staging", "web", 1), altered(&of_service("staging", "web", 1))];
    let outcomes = append(&journal, &elsewhere).await;

    assert_eq!(outcomes, [Outcome::Duplicate(at(1)), Outcome::Conflict(at(1))]);
}

async fn repetitions_within_a_batch_have_the_same_outcomes_as_in_a_later_batch(fixture: impl Fixture) {
    let journal = fixture.journal();
    let batch = [one(1), one(2), one(1), altered(&one(2)), one(1), altered(&one(3)), one(3)];

    let outcomes = append(&journal, &batch).await;

    let expected = [
        Outcome::Recorded(at(1)),
        Outcome::Recorded(at(2)),
        Outcome::Duplicate(at(1)),
        Outcome::Conflict(at(2)),
        Outcome::Duplicate(at(1)),
        Outcome::Recorded(at(3)),
        Outcome::Conflict(at(3)),
    ];
    assert_eq!(outcomes, expected);
    assert_holds(&journal, &[one(1), one(2), altered(&one(3))]).await;
}

async fn repetitions_within_a_large_batch_keep_the_order_of_the_other_events(fixture: impl Fixture) {
    for size in [20, 300, 2_500] {
        let journal = fixture.journal();
        let before = contents(&journal).await;
        // Every fifth event is followed by a repetition of an earlier one and an altered copy of itself; every seventh
        // is repeated at the end.
        let number = |index: u64| size * 10_000 + index;
        let mut batch = Vec::new();
        for index in 0..size {
            batch.push(one(number(index)));
            if index % 5 == 0 {
                batch.push(one(number(index / 2)));
                batch.push(altered(&one(number(index))));
            }
        }
        batch.extend((0..size).step_by(7).map(|index| one(number(index))));

        let outcomes = append(&journal, &batch).await;

        assert_eq!(outcomes, expected_outcomes(before.len() as u64, &batch), "{size} in a batch");
        let found: Vec<_> = contents(&journal).await.split_off(before.len());
        let expected: Vec<_> = (0..size).map(|index| one(number(index)).bytes).collect();
        assert_eq!(found.into_iter().map(|entry| entry.bytes).collect::<Vec<_>>(), expected);
    }
}

async fn one_duplicate_in_a_batch_does_not_affect_the_other_events(fixture: impl Fixture) {
    for size in [7, 8, 40, 200, 1_000, 2_500] {
        let journal = fixture.journal();
        let start = contents(&journal).await.len() as u64;
        let numbers = size * 10_000..size * 10_000 + size;
        let known = size * 10_000 + size / 2;
        append(&journal, &[one(known)]).await;

        let outcomes = append(&journal, &numbered(numbers.clone())).await;

        let mut expected = recorded_at(start + 2..=start + size);
        expected.insert((size / 2) as usize, Outcome::Duplicate(at(start + 1)));
        assert_eq!(outcomes, expected, "{size} in a batch");
        let others = numbers.filter(|number| *number != known);
        let found: Vec<_> = contents(&journal).await.split_off(start as usize + 1);
        let others: Vec<_> = others.map(|number| one(number).bytes).collect();
        assert_eq!(found.into_iter().map(|entry| entry.bytes).collect::<Vec<_>>(), others);
    }
}

async fn a_repeated_batch_records_nothing(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=1_500)).await;

    let again = append(&fixture.other().await, &numbered((1..=1_500).rev())).await;

    assert_eq!(again, duplicate_of((1..=1_500).rev()));
    assert_holds(&journal, &numbered(1..=1_500)).await;
}

async fn concurrent_appends_record_each_identity_once(fixture: impl Fixture) {
    let results = append_concurrently(&fixture, |_, number| one(number)).await;

    let entries = contents(&fixture.journal()).await;
    assert_eq!(entries.len(), 400);
    for (new_entry, outcomes) in results.values() {
        let position = outcomes[0].1;
        let recorded = outcomes.iter().filter(|(recorded, _)| *recorded).count();
        assert_eq!(recorded, 1, "{new_entry:?}");
        assert!(outcomes.iter().all(|(_, returned)| *returned == position), "{outcomes:?}");
        assert_eq!(entries[position as usize - 1].bytes, new_entry.bytes);
    }
}

/// The results for one identity: the submission, and for each attempt whether it recorded the entry and its position.
type ResultsByKey = HashMap<IdentityKey, (NewEntry, Vec<(bool, u64)>)>;

/// Appends the numbers from 0 to 399 from several tasks through both handles of a journal, overlapping and in batches
/// of several sizes. A conflict is a failure.
async fn append_concurrently(fixture: &impl Fixture, new_entry: fn(u64, u64) -> NewEntry) -> ResultsByKey {
    let journals = [fixture.journal(), fixture.other().await];
    let tasks = (0..6).map(|task| {
        let journal = journals[task as usize % 2].clone();
        tokio::spawn(async move {
            let events: Vec<_> = (0..240).map(|index| new_entry(task, (task * 80 + index) % 400)).collect();
            let mut results = Vec::new();
            for batch in events.chunks([3, 20, 77][task as usize % 3]) {
                let outcomes = append(&journal, batch).await;
                assert!(in_order(&outcomes), "{outcomes:?}");
                results.extend(batch.iter().cloned().zip(outcomes));
            }
            results
        })
    });
    let results = futures::future::try_join_all(tasks).await.expect("no panic");
    let mut by_key = ResultsByKey::new();
    for (new_entry, outcome) in results.into_iter().flatten() {
        let result = match outcome {
            Outcome::Recorded(position) => (true, position.get()),
            Outcome::Duplicate(position) => (false, position.get()),
            Outcome::Conflict(_) => panic!("{new_entry:?} {outcome:?}"),
        };
        by_key.entry(new_entry.key).or_insert_with(|| (new_entry, Vec::new())).1.push(result);
    }
    by_key
}

/// True if the entries that a batch recorded are in the batch's order.
fn in_order(outcomes: &[Outcome]) -> bool {
    let recorded = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Recorded(position) => Some(position),
        _ => None,
    });
    recorded.is_sorted()
}

async fn concurrent_appends_with_different_content_record_one(fixture: impl Fixture) {
    let journals = [fixture.journal(), fixture.other().await];
    let tasks = (0..4).map(|task| {
        let journal: SharedJournal = journals[task % 2].clone();
        let events: Vec<_> =
            numbered(0..200).iter().map(|one| with_bytes(one, format!("of task {task}"))).collect();
        tokio::spawn(async move { append(&journal, &events).await })
    });
    let results = futures::future::try_join_all(tasks).await.expect("no panic");

    let entries = contents(&journals[0]).await;
    assert_eq!(entries.len(), 200);
    for index in 0..200 {
        let of_all: Vec<_> = results.iter().map(|outcomes| outcomes[index]).collect();
        let winner = of_all.iter().position(|outcome| matches!(outcome, Outcome::Recorded(_)));
        let winner = winner.unwrap_or_else(|| panic!("none was recorded: {of_all:?}"));
        let Outcome::Recorded(position) = of_all[winner] else { unreachable!() };
        let others = of_all.iter().enumerate().filter(|(task, _)| *task != winner);
        assert!(others.into_iter().all(|(_, outcome)| *outcome == Outcome::Conflict(position)), "{of_all:?}");
        let entry: &Entry = &entries[position.get() as usize - 1];
        assert_eq!(entry.bytes, format!("of task {winner}"));
    }
}

/// Returns the outcomes of a batch according to the trait's documentation, with `recorded` entries before it.
fn expected_outcomes(recorded: u64, batch: &[NewEntry]) -> Vec<Outcome> {
    let mut end = recorded;
    let mut first: HashMap<IdentityKey, (u64, &NewEntry)> = HashMap::new();
    let outcomes = batch.iter().map(|new_entry| match first.get(&new_entry.key) {
        Some((position, first)) if first.bytes == new_entry.bytes => Outcome::Duplicate(at(*position)),
        Some((position, _)) => Outcome::Conflict(at(*position)),
        None => {
            end += 1;
            first.insert(new_entry.key, (end, new_entry));
            Outcome::Recorded(at(end))
        }
    });
    outcomes.collect()
}
