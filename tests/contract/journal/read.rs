//! Reading from a position to a position, and following.

use futures::{FutureExt, StreamExt};
use ledger_domain::Position;
use ledger_journal::{SubjectFilter, Until};

use super::fixture::Fixture;
use super::helpers::{append, at, entry_of, next, next_positions, positions, read, with_timeout};
use super::submissions::{numbered, one};

for_every_journal!(
    a_reader_starts_after_one_position_and_ends_with_another,
    a_bounded_reader_ends_at_the_head,
    an_empty_range_has_no_records,
    a_long_journal_is_read_in_order,
    a_reader_waits_for_new_entries,
    a_waiting_reader_receives_all_entries_of_a_large_batch,
    a_reader_that_starts_beyond_the_head_waits_for_its_position,
    concurrent_readers_do_not_affect_each_other,
    a_bounded_reader_ends_while_others_append,
);
for_three_nodes!(
    a_waiting_reader_receives_all_entries_of_a_large_batch,
    a_bounded_reader_ends_while_others_append,
);

async fn a_reader_starts_after_one_position_and_ends_with_another(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=20)).await;

    let entries: Vec<_> = read(&journal, SubjectFilter::All, 4, 9).await.into_iter().map(entry_of).collect();

    let found: Vec<_> = entries.iter().map(|entry| (entry.position, entry.bytes.clone())).collect();
    let expected: Vec<_> = (5..=9).map(|number| (at(number), one(number).bytes)).collect();
    assert_eq!(found, expected);
    assert_eq!(positions(&read(&journal, SubjectFilter::All, 0, 1).await), [1]);
    assert_eq!(positions(&read(&journal, SubjectFilter::All, 19, 20).await), [20]);
}

async fn a_bounded_reader_ends_at_the_head(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=3)).await;

    for until in [4, 1_000, u64::MAX] {
        assert_eq!(positions(&read(&journal, SubjectFilter::All, 1, until).await), [2, 3], "{until}");
    }
}

async fn an_empty_range_has_no_records(fixture: impl Fixture) {
    let journal = fixture.journal();
    assert_eq!(read(&journal, SubjectFilter::All, 0, 10).await, []);
    append(&journal, &numbered(1..=10)).await;

    for (after, until) in [(0, 0), (5, 5), (6, 5), (10, 10), (10, 20), (50, 60), (50, 10)] {
        assert_eq!(read(&journal, SubjectFilter::All, after, until).await, [], "({after}, {until}]");
    }
}

async fn a_long_journal_is_read_in_order(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=5_000)).await;

    let bounded = read(&journal, SubjectFilter::All, 0, 4_999).await;
    let forever = journal.read(SubjectFilter::All, at(1), Until::Forever).take(4_999);
    let forever: Vec<_> = with_timeout(forever.map(|record| record.expect("a record")).collect()).await;

    assert_eq!(positions(&bounded), (1..=4_999).collect::<Vec<_>>());
    assert_eq!(positions(&forever), (2..=5_000).collect::<Vec<_>>());
    assert_eq!(bounded[1..], forever[..4_998]);
}

async fn a_reader_waits_for_new_entries(fixture: impl Fixture) {
    let (journal, other) = (fixture.journal(), fixture.other().await);
    append(&journal, &numbered(1..=2)).await;
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    assert_eq!(next_positions(&mut records, 2).await, [1, 2]);

    assert!(records.next().now_or_never().is_none(), "there is nothing yet");
    append(&other, &[one(3)]).await;
    assert_eq!(entry_of(next(&mut records).await).bytes, one(3).bytes);
    append(&journal, &numbered(4..=5)).await;
    assert_eq!(next_positions(&mut records, 2).await, [4, 5]);
}

async fn a_waiting_reader_receives_all_entries_of_a_large_batch(fixture: impl Fixture) {
    let (journal, other) = (fixture.journal(), fixture.other().await);
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    assert!(records.next().now_or_never().is_none(), "there is nothing yet");

    let call = numbered(1..=3_000);
    let (_, found) = tokio::join!(append(&other, &call), next_positions(&mut records, 3_000));

    assert_eq!(found, (1..=3_000).collect::<Vec<_>>());
}

async fn a_reader_that_starts_beyond_the_head_waits_for_its_position(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=2)).await;
    let mut records = journal.read(SubjectFilter::All, at(4), Until::Forever);
    assert!(records.next().now_or_never().is_none(), "there is nothing yet");

    append(&journal, &numbered(3..=4)).await;
    append(&journal, &numbered(5..=6)).await;

    assert_eq!(next_positions(&mut records, 2).await, [5, 6]);
}

async fn concurrent_readers_do_not_affect_each_other(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=700)).await;
    let read_all = async || {
        let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
        next_positions(&mut records, 700).await
    };
    let read_some = async || {
        let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
        next_positions(&mut records, 10).await
    };

    let (first, second, third) = tokio::join!(read_all(), read_some(), read_all());

    assert_eq!(first, (1..=700).collect::<Vec<_>>());
    assert_eq!(second, (1..=10).collect::<Vec<_>>());
    assert_eq!(third, first);
}

async fn a_bounded_reader_ends_while_others_append(fixture: impl Fixture) {
    let (journal, other) = (fixture.journal(), fixture.other().await);
    append(&journal, &numbered(1..=500)).await;
    let calls: Vec<_> = (0..40).map(|call| numbered(1_000 + call * 10..1_010 + call * 10)).collect();

    let appending = async {
        for call in &calls {
            append(&other, call).await;
        }
    };
    let (_, found) = tokio::join!(appending, read(&journal, SubjectFilter::All, 0, 500));

    assert_eq!(positions(&found), (1..=500).collect::<Vec<_>>());
}
