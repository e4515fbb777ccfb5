//! Helpers that append and read with a timeout: a test fails instead of waiting forever.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use ledger_domain::Position;
use ledger_journal::{
    AppendError, Entry, NewEntry, Outcome, ReadError, Record, SharedJournal, SubjectFilter, Until,
};

/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A stream of records.
pub(super) type Records = BoxStream<'static, Result<Record, ReadError>>;

/// Awaits a future; panics after the limit.
pub(super) async fn with_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_LIMIT, future).await.expect("the future completes")
}

/// Returns the position with this number.
pub(super) const fn at(number: u64) -> Position {
    Position::new(number)
}

/// Appends submissions, asserts that each has an outcome, and returns the outcomes.
pub(super) async fn append(journal: &SharedJournal, new_entries: &[NewEntry]) -> Vec<Outcome> {
    let outcomes = try_append(journal, new_entries).await;
    outcomes.into_iter().map(|outcome| outcome.expect("an outcome")).collect()
}

/// Appends submissions and returns their results.
pub(super) async fn try_append(
    journal: &SharedJournal,
    new_entries: &[NewEntry],
) -> Vec<Result<Outcome, AppendError>> {
    let outcomes = with_timeout(journal.append(new_entries)).await;
    assert_eq!(outcomes.len(), new_entries.len(), "each submission has a result");
    outcomes
}

/// Appends a submission at an expected head and returns the result.
pub(super) async fn try_append_at(
    journal: &SharedJournal,
    new_entry: &NewEntry,
    head: Position,
) -> Result<Outcome, AppendError> {
    with_timeout(journal.append_expecting(new_entry, head)).await
}

/// Returns `Recorded` for each of these positions.
pub(super) fn recorded_at(positions: impl IntoIterator<Item = u64>) -> Vec<Outcome> {
    positions.into_iter().map(|position| Outcome::Recorded(at(position))).collect()
}

/// Returns `Duplicate` for each of these positions.
pub(super) fn duplicate_of(positions: impl IntoIterator<Item = u64>) -> Vec<Outcome> {
    positions.into_iter().map(|position| Outcome::Duplicate(at(position))).collect()
}

/// Reads all records of a bounded reader.
pub(super) async fn read(
    journal: &SharedJournal,
    filter: SubjectFilter,
    after: u64,
    until: u64,
) -> Vec<Record> {
    let records = journal.read(filter, at(after), Until::Position(at(until)));
    let records: Vec<_> = with_timeout(records.collect()).await;
    records.into_iter().map(|record| record.expect("a record")).collect()
}

/// Reads all entries of a journal; asserts that it has no gaps and that the positions are consecutive.
pub(super) async fn contents(journal: &SharedJournal) -> Vec<Entry> {
    let head = journal.head().await.expect("a head").position;
    let records = read(journal, SubjectFilter::All, 0, head.get()).await;
    let entries: Vec<_> = records.into_iter().map(entry_of).collect();
    let positions: Vec<_> = entries.iter().map(|entry| entry.position.get()).collect();
    assert_eq!(positions, (1..=head.get()).collect::<Vec<_>>(), "each position occurs once");
    entries
}

/// Asserts that a journal contains exactly these events in this order.
pub(super) async fn assert_holds(journal: &SharedJournal, expected: &[NewEntry]) {
    let found: Vec<_> = contents(journal).await.into_iter().map(|entry| entry.bytes).collect();
    let expected: Vec<_> = expected.iter().map(|new_entry| new_entry.bytes.clone()).collect();
    assert_eq!(found, expected);
}

/// Waits for the next record of a reader.
pub(super) async fn next(records: &mut Records) -> Record {
    with_timeout(records.next()).await.expect("the reader continues").expect("a record")
}

/// Waits for the next records of a reader and returns their positions.
pub(super) async fn next_positions(records: &mut Records, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        positions.push(next(records).await.position().get());
    }
    positions
}

/// Returns the positions of records.
pub(super) fn positions(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position().get()).collect()
}

/// Returns the entry of a record; panics if it is a gap.
pub(super) fn entry_of(record: Record) -> Entry {
    match record {
        Record::Entry(entry) => entry,
        Record::Gap(position) => panic!("{position} is a gap"),
    }
}
