//! An identity is recorded once, whoever gives it again, however often and with what content.

use std::collections::HashMap;

use ledger_domain::IdentityKey;
use ledger_journal::{Entry, NewEntry, Outcome, SharedJournal};

use super::bench::Bench;
use super::new_entries::{altered, numbered, of_service, one, with_bytes};
use super::reading::{append, assert_holds, at, contents, duplicate_of, recorded_at};

for_every_journal!(
    the_same_event_again_is_a_duplicate_of_the_first,
    the_same_identity_with_other_content_is_a_conflict,
    the_subject_does_not_make_an_identity_another,
    copies_within_a_call_are_answered_like_copies_in_a_later_one,
    copies_within_a_great_call_leave_the_others_in_order,
    one_known_member_does_not_hinder_the_others,
    a_call_given_again_as_a_whole_records_nothing,
    concurrent_calls_record_each_identity_once,
    concurrent_calls_with_different_content_have_one_winner,
);
for_three_nodes!(
    copies_within_a_call_are_answered_like_copies_in_a_later_one,
    one_known_member_does_not_hinder_the_others,
    concurrent_calls_record_each_identity_once,
    concurrent_calls_with_different_content_have_one_winner,
);

async fn the_same_event_again_is_a_duplicate_of_the_first(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=10)).await;

    assert_eq!(append(&journal, &[one(3)]).await, duplicate_of([3]));
    assert_eq!(append(&bench.beside().await, &[one(10)]).await, duplicate_of([10]));

    assert_holds(&journal, &numbered(1..=10)).await;
}

async fn the_same_identity_with_other_content_is_a_conflict(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=10)).await;

    let outcomes = append(&journal, &[altered(&one(3)), one(11), with_bytes(&one(10), "")]).await;

    assert_eq!(outcomes, [Outcome::Conflict(at(3)), Outcome::Recorded(at(11)), Outcome::Conflict(at(10))]);
    assert_holds(&journal, &numbered(1..=11)).await;
}

async fn the_subject_does_not_make_an_identity_another(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &[of_service("production", "web", 1)]).await;

    let elsewhere = [of_service("staging", "web", 1), altered(&of_service("staging", "web", 1))];
    let outcomes = append(&journal, &elsewhere).await;

    assert_eq!(outcomes, [Outcome::Duplicate(at(1)), Outcome::Conflict(at(1))]);
}

async fn copies_within_a_call_are_answered_like_copies_in_a_later_one(bench: impl Bench) {
    let journal = bench.journal();
    let call = [one(1), one(2), one(1), altered(&one(2)), one(1), altered(&one(3)), one(3)];

    let outcomes = append(&journal, &call).await;

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

async fn copies_within_a_great_call_leave_the_others_in_order(bench: impl Bench) {
    for size in [20, 300, 2_500] {
        let journal = bench.journal();
        let before = contents(&journal).await;
        // Every fifth comes three times, the last of them altered; every seventh comes again at the end.
        let number = |index: u64| size * 10_000 + index;
        let mut call = Vec::new();
        for index in 0..size {
            call.push(one(number(index)));
            if index % 5 == 0 {
                call.push(one(number(index / 2)));
                call.push(altered(&one(number(index))));
            }
        }
        call.extend((0..size).step_by(7).map(|index| one(number(index))));

        let outcomes = append(&journal, &call).await;

        assert_eq!(outcomes, expected_outcomes(before.len() as u64, &call), "{size} in a call");
        let found: Vec<_> = contents(&journal).await.split_off(before.len());
        let expected: Vec<_> = (0..size).map(|index| one(number(index)).bytes).collect();
        assert_eq!(found.into_iter().map(|entry| entry.bytes).collect::<Vec<_>>(), expected);
    }
}

async fn one_known_member_does_not_hinder_the_others(bench: impl Bench) {
    for size in [7, 8, 40, 200, 1_000, 2_500] {
        let journal = bench.journal();
        let start = contents(&journal).await.len() as u64;
        let numbers = size * 10_000..size * 10_000 + size;
        let known = size * 10_000 + size / 2;
        append(&journal, &[one(known)]).await;

        let outcomes = append(&journal, &numbered(numbers.clone())).await;

        let mut expected = recorded_at(start + 2..=start + size);
        expected.insert((size / 2) as usize, Outcome::Duplicate(at(start + 1)));
        assert_eq!(outcomes, expected, "{size} in a call");
        let others = numbers.filter(|number| *number != known);
        let found: Vec<_> = contents(&journal).await.split_off(start as usize + 1);
        let others: Vec<_> = others.map(|number| one(number).bytes).collect();
        assert_eq!(found.into_iter().map(|entry| entry.bytes).collect::<Vec<_>>(), others);
    }
}

async fn a_call_given_again_as_a_whole_records_nothing(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=1_500)).await;

    let again = append(&bench.beside().await, &numbered((1..=1_500).rev())).await;

    assert_eq!(again, duplicate_of((1..=1_500).rev()));
    assert_holds(&journal, &numbered(1..=1_500)).await;
}

async fn concurrent_calls_record_each_identity_once(bench: impl Bench) {
    let answers = append_concurrently(&bench, |_, number| one(number)).await;

    let entries = contents(&bench.journal()).await;
    assert_eq!(entries.len(), 400);
    for (new_entry, outcomes) in answers.values() {
        let position = outcomes[0].1;
        let recorded = outcomes.iter().filter(|(recorded, _)| *recorded).count();
        assert_eq!(recorded, 1, "{new_entry:?}");
        assert!(outcomes.iter().all(|(_, answered)| *answered == position), "{outcomes:?}");
        assert_eq!(entries[position as usize - 1].bytes, new_entry.bytes);
    }
}

/// What one identity was answered: whether it was recorded, and where.
type Answers = HashMap<IdentityKey, (NewEntry, Vec<(bool, u64)>)>;

/// Several tasks on both ways into a journal append the numbers from 0 to 399, overlapping, in calls
/// of several sizes. None may be answered with a conflict.
async fn append_concurrently(bench: &impl Bench, new_entry: fn(u64, u64) -> NewEntry) -> Answers {
    let journals = [bench.journal(), bench.beside().await];
    let tasks = (0..6).map(|task| {
        let journal = journals[task as usize % 2].clone();
        tokio::spawn(async move {
            let mine: Vec<_> = (0..240).map(|index| new_entry(task, (task * 80 + index) % 400)).collect();
            let mut answers = Vec::new();
            for call in mine.chunks([3, 20, 77][task as usize % 3]) {
                let outcomes = append(&journal, call).await;
                assert!(in_order(&outcomes), "{outcomes:?}");
                answers.extend(call.iter().cloned().zip(outcomes));
            }
            answers
        })
    });
    let answers = futures::future::try_join_all(tasks).await.expect("no panic");
    let mut by_key = Answers::new();
    for (new_entry, outcome) in answers.into_iter().flatten() {
        let answer = match outcome {
            Outcome::Recorded(position) => (true, position.get()),
            Outcome::Duplicate(position) => (false, position.get()),
            Outcome::Conflict(_) => panic!("{new_entry:?} {outcome:?}"),
        };
        by_key.entry(new_entry.key).or_insert_with(|| (new_entry, Vec::new())).1.push(answer);
    }
    by_key
}

/// Whether what a call recorded stands in the order of the call.
fn in_order(outcomes: &[Outcome]) -> bool {
    let recorded = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Recorded(position) => Some(position),
        _ => None,
    });
    recorded.is_sorted()
}

async fn concurrent_calls_with_different_content_have_one_winner(bench: impl Bench) {
    let journals = [bench.journal(), bench.beside().await];
    let contestants = (0..4).map(|task| {
        let journal: SharedJournal = journals[task % 2].clone();
        let mine: Vec<_> =
            numbered(0..200).iter().map(|one| with_bytes(one, format!("of task {task}"))).collect();
        tokio::spawn(async move { append(&journal, &mine).await })
    });
    let answers = futures::future::try_join_all(contestants).await.expect("no panic");

    let entries = contents(&journals[0]).await;
    assert_eq!(entries.len(), 200);
    for index in 0..200 {
        let of_all: Vec<_> = answers.iter().map(|outcomes| outcomes[index]).collect();
        let winner = of_all.iter().position(|outcome| matches!(outcome, Outcome::Recorded(_)));
        let winner = winner.unwrap_or_else(|| panic!("nobody's was recorded: {of_all:?}"));
        let Outcome::Recorded(position) = of_all[winner] else { unreachable!() };
        let others = of_all.iter().enumerate().filter(|(task, _)| *task != winner);
        assert!(others.into_iter().all(|(_, outcome)| *outcome == Outcome::Conflict(position)), "{of_all:?}");
        let entry: &Entry = &entries[position.get() as usize - 1];
        assert_eq!(entry.bytes, format!("of task {winner}"));
    }
}

/// What becomes of a call by the words of the trait, with `recorded` entries before it.
fn expected_outcomes(recorded: u64, call: &[NewEntry]) -> Vec<Outcome> {
    let mut end = recorded;
    let mut first: HashMap<IdentityKey, (u64, &NewEntry)> = HashMap::new();
    let outcomes = call.iter().map(|new_entry| match first.get(&new_entry.key) {
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
