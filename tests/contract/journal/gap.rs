//! Gaps: a reader receives a gap for each assigned position without an entry.

use ledger_domain::Position;
use ledger_journal::{Outcome, Record, SubjectFilter, Until};

use super::fixture::Fixture;
use super::helpers::{append, at, next, positions, read, recorded_at};
use super::submissions::{in_environment, in_service, numbered, of_environment, of_service, one};

for_every_journal!(
    missing_entries_at_the_beginning_are_reported_as_gaps,
    a_missing_entry_between_others_is_reported_as_a_gap,
    a_journal_without_entries_consists_of_gaps_up_to_its_head,
    a_following_reader_receives_the_gaps_up_to_the_head,
    a_filtered_reader_receives_no_gaps,
    the_position_of_a_missing_entry_is_not_reused,
    the_identity_of_a_missing_entry_is_a_conflict,
);
for_three_nodes!(
    missing_entries_at_the_beginning_are_reported_as_gaps,
    a_missing_entry_between_others_is_reported_as_a_gap,
    a_journal_without_entries_consists_of_gaps_up_to_its_head,
    the_identity_of_a_missing_entry_is_a_conflict,
);

/// Returns the positions of the gaps.
fn gaps(records: &[Record]) -> Vec<u64> {
    records.iter().filter(|record| matches!(record, Record::Gap(_))).map(|gap| gap.position().get()).collect()
}

async fn missing_entries_at_the_beginning_are_reported_as_gaps(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5)).await;
    fixture.delete_first(3).await;

    for journal in [journal, fixture.other().await] {
        let all = read(&journal, SubjectFilter::All, 0, 5).await;
        assert_eq!(positions(&all), [1, 2, 3, 4, 5]);
        assert_eq!(gaps(&all), [1, 2, 3]);
        assert_eq!(gaps(&read(&journal, SubjectFilter::All, 1, 9).await), [2, 3]);
        assert_eq!(gaps(&read(&journal, SubjectFilter::All, 0, 2).await), [1, 2]);
        assert_eq!(positions(&read(&journal, SubjectFilter::All, 0, 2).await), [1, 2]);
        assert_eq!(gaps(&read(&journal, SubjectFilter::All, 3, 5).await), [0; 0]);
        assert_eq!(journal.entry(at(3)).await, Ok(None));
        assert!(journal.entry(at(4)).await.expect("a result").is_some());
    }
}

async fn a_missing_entry_between_others_is_reported_as_a_gap(fixture: impl Fixture) {
    let journal = fixture.journal();
    let places = ["a", "b", "b", "c", "c", "c"];
    let new_entries: Vec<_> = (1..).zip(places).map(|(n, name)| of_environment(name, n)).collect();
    append(&journal, &new_entries).await;
    fixture.delete_superseded(&[2, 4, 5]).await;

    let all = read(&journal, SubjectFilter::All, 0, 6).await;
    let mut forever = journal.read(SubjectFilter::All, at(1), Until::Forever);
    let part = read(&journal, SubjectFilter::All, 0, 5).await;

    assert_eq!(positions(&all), [1, 2, 3, 4, 5, 6]);
    assert_eq!(gaps(&all), [2, 4, 5]);
    for record in &all[1..] {
        assert_eq!(next(&mut forever).await, *record);
    }
    assert_eq!(part, all[..5]);
}

async fn a_journal_without_entries_consists_of_gaps_up_to_its_head(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5)).await;
    fixture.delete_first(5).await;

    assert_eq!(gaps(&read(&journal, SubjectFilter::All, 0, 9).await), [1, 2, 3, 4, 5]);
    assert_eq!(gaps(&read(&journal, SubjectFilter::All, 2, 4).await), [3, 4]);
    assert_eq!(journal.head().await.expect("a head").position, at(5));
}

async fn a_following_reader_receives_the_gaps_up_to_the_head(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    fixture.delete_first(3).await;
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);

    for number in 1..=3 {
        assert_eq!(next(&mut records).await, Record::Gap(at(number)));
    }
    append(&journal, &[one(4)]).await;
    assert!(matches!(next(&mut records).await, Record::Entry(entry) if entry.position == at(4)));
}

async fn a_filtered_reader_receives_no_gaps(fixture: impl Fixture) {
    let journal = fixture.journal();
    let new_entries: Vec<_> = (1..=6).map(|n| of_service(["a", "b"][n as usize % 2], "web", n)).collect();
    append(&journal, &new_entries).await;
    fixture.delete_first(3).await;

    assert_eq!(
        read(&journal, in_environment("a"), 0, 6).await,
        read(&journal, in_environment("a"), 3, 6).await
    );
    assert_eq!(positions(&read(&journal, in_environment("a"), 0, 6).await), [4, 6]);
    assert_eq!(positions(&read(&journal, in_service("b", "web"), 0, 9).await), [5]);
    assert_eq!(positions(&read(&journal, in_service("b", "web"), 0, 3).await), [0; 0]);
}

async fn the_position_of_a_missing_entry_is_not_reused(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5)).await;
    fixture.delete_first(5).await;

    assert_eq!(append(&journal, &numbered(6..=15)).await, recorded_at(6..=15));
    assert_eq!(append(&journal, &[one(16)]).await, recorded_at([16]));

    let all = read(&journal, SubjectFilter::All, 0, 16).await;
    assert_eq!(positions(&all), (1..=16).collect::<Vec<_>>());
    assert_eq!(gaps(&all), [1, 2, 3, 4, 5]);
}

/// The content of a missing entry is unknown: the journal cannot compare it with the event.
async fn the_identity_of_a_missing_entry_is_a_conflict(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;
    fixture.delete_first(2).await;

    let outcomes = append(&journal, &numbered(1..=3)).await;

    assert_eq!(outcomes, [Outcome::Conflict(at(1)), Outcome::Conflict(at(2)), Outcome::Duplicate(at(3))]);
    assert_eq!(journal.head().await.expect("a head").position, at(3));
}
