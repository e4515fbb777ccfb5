//! Reading in tests: everything that is awaited comes, or the test fails.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use ledger_domain::Position;
use ledger_journal::{
    AppendError, Entry, NewEntry, Outcome, ReadError, Record, SharedJournal, SubjectFilter, Until,
};

/// Longer than anything takes that does not fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that come one by one.
pub(super) type Records = BoxStream<'static, Result<Record, ReadError>>;

/// What comes of it, if it comes at all.
pub(super) async fn patiently<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.expect("it comes to its end")
}

/// The position with this number.
pub(super) const fn at(number: u64) -> Position {
    Position::new(number)
}

/// Appends submissions that must all be taken, and answers what became of them.
pub(super) async fn append(journal: &SharedJournal, new_entries: &[NewEntry]) -> Vec<Outcome> {
    let outcomes = try_append(journal, new_entries).await;
    outcomes.into_iter().map(|outcome| outcome.expect("an outcome")).collect()
}

/// Appends submissions: each must be answered, whatever the answer.
pub(super) async fn try_append(
    journal: &SharedJournal,
    new_entries: &[NewEntry],
) -> Vec<Result<Outcome, AppendError>> {
    let outcomes = patiently(journal.append(new_entries)).await;
    assert_eq!(outcomes.len(), new_entries.len(), "each submission is answered");
    outcomes
}

/// Appends one at an expected end: it must be answered, whatever the answer.
pub(super) async fn try_append_at(
    journal: &SharedJournal,
    new_entry: &NewEntry,
    head: Position,
) -> Result<Outcome, AppendError> {
    patiently(journal.append_expecting(new_entry, head)).await
}

/// `Recorded` at each of these positions.
pub(super) fn recorded_at(positions: impl IntoIterator<Item = u64>) -> Vec<Outcome> {
    positions.into_iter().map(|position| Outcome::Recorded(at(position))).collect()
}

/// `Duplicate` of each of these positions.
pub(super) fn duplicate_of(positions: impl IntoIterator<Item = u64>) -> Vec<Outcome> {
    positions.into_iter().map(|position| Outcome::Duplicate(at(position))).collect()
}

/// All that a bounded reader gets.
pub(super) async fn read(
    journal: &SharedJournal,
    scope: SubjectFilter,
    after: u64,
    until: u64,
) -> Vec<Record> {
    let records = journal.read(scope, at(after), Until::Position(at(until)));
    let records: Vec<_> = patiently(records.collect()).await;
    records.into_iter().map(|record| record.expect("a record")).collect()
}

/// All entries of a journal that has no gaps, standing where they should.
pub(super) async fn contents(journal: &SharedJournal) -> Vec<Entry> {
    let head = journal.head().await.expect("a head").position;
    let records = read(journal, SubjectFilter::All, 0, head.get()).await;
    let entries: Vec<_> = records.into_iter().map(entry_of).collect();
    let positions: Vec<_> = entries.iter().map(|entry| entry.position.get()).collect();
    assert_eq!(positions, (1..=head.get()).collect::<Vec<_>>(), "no position is left out or comes twice");
    entries
}

/// Holds a journal against what it should hold: these events and no others, in this order.
pub(super) async fn assert_holds(journal: &SharedJournal, expected: &[NewEntry]) {
    let found: Vec<_> = contents(journal).await.into_iter().map(|entry| entry.bytes).collect();
    let expected: Vec<_> = expected.iter().map(|new_entry| new_entry.bytes.clone()).collect();
    assert_eq!(found, expected);
}

/// The next record of a reader that has to wait for it.
pub(super) async fn next(records: &mut Records) -> Record {
    patiently(records.next()).await.expect("the reader goes on").expect("a record")
}

/// The next records of a reader, as their positions.
pub(super) async fn next_positions(records: &mut Records, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        positions.push(next(records).await.position().get());
    }
    positions
}

/// The positions of records.
pub(super) fn positions(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position().get()).collect()
}

/// A record that must be an entry.
pub(super) fn entry_of(record: Record) -> Entry {
    match record {
        Record::Entry(entry) => entry,
        Record::Gap(position) => panic!("{position} is a gap"),
    }
}
