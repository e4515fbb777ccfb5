//! Appending: positions, order, time, and the content of entries.

use bytes::Bytes;
use chrono::Timelike;
use ledger_domain::Position;
use ledger_journal::{SubjectFilter, Until};

use super::fixture::Fixture;
use super::helpers::{append, assert_holds, at, contents, entry_of, next, read, recorded_at};
use super::submissions::{numbered, one, with_bytes};

for_every_journal!(
    positions_are_consecutive_for_every_batch_size,
    an_empty_append_returns_no_outcomes,
    the_head_is_the_last_position_and_the_same_through_every_handle,
    an_entry_is_found_only_at_its_position,
    recorded_at_never_decreases_and_has_microsecond_precision,
    recorded_at_never_decreases_under_concurrent_appends,
    bytes_are_stored_unchanged,
    entries_of_maximum_size_can_be_appended_in_one_batch,
    an_acknowledged_entry_can_be_read_immediately,
);
for_three_nodes!(
    positions_are_consecutive_for_every_batch_size,
    an_acknowledged_entry_can_be_read_immediately,
);

async fn positions_are_consecutive_for_every_batch_size(fixture: impl Fixture) {
    let journal = fixture.journal();
    let mut end = 0;
    for size in [1, 7, 8, 1_000, 2_500] {
        let range = end + 1..=end + size;
        let outcomes = append(&journal, &numbered(range.clone())).await;
        assert_eq!(outcomes, recorded_at(range), "a batch of {size}");
        end += size;
    }
    assert_holds(&journal, &numbered(1..=end)).await;
}

async fn an_empty_append_returns_no_outcomes(fixture: impl Fixture) {
    let journal = fixture.journal();

    assert_eq!(append(&journal, &[]).await, []);

    assert_holds(&journal, &[]).await;
}

async fn the_head_is_the_last_position_and_the_same_through_every_handle(fixture: impl Fixture) {
    let journal = fixture.journal();
    let before = journal.head().await.expect("a head");
    append(&journal, &numbered(1..=9)).await;
    let after = journal.head().await.expect("a head");
    let other = fixture.other().await.head().await.expect("a head");

    assert_eq!(before.position, Position::START);
    assert_eq!(after.position, at(9));
    assert_eq!(after.created, before.created);
    assert_eq!(other, after);
}

async fn an_entry_is_found_only_at_its_position(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &numbered(1..=10)).await;

    let entries = read(&journal, SubjectFilter::All, 0, 10).await;
    for entry in entries.into_iter().map(entry_of) {
        assert_eq!(journal.entry(entry.position).await, Ok(Some(entry)));
    }
    for unused in [0, 11, 1_000_000, u64::MAX] {
        assert_eq!(journal.entry(at(unused)).await, Ok(None), "{unused}");
    }
}

async fn recorded_at_never_decreases_and_has_microsecond_precision(fixture: impl Fixture) {
    let journal = fixture.journal();
    for start in [1, 101, 201, 301] {
        append(&journal, &numbered(start..start + 99)).await;
        append(&journal, &[one(start + 99)]).await;
    }

    let times: Vec<_> = contents(&journal).await.iter().map(|entry| entry.recorded_at).collect();
    let created = journal.head().await.expect("a head").created;

    assert!(times.is_sorted(), "{times:?}");
    assert!(times.iter().chain([&created]).all(|time| time.nanosecond() % 1_000 == 0), "{times:?}");
    assert!(created <= times[0]);
}

async fn recorded_at_never_decreases_under_concurrent_appends(fixture: impl Fixture) {
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let journal = fixture.journal();
            tokio::spawn(async move {
                for number in 0..300 {
                    append(&journal, &[one(task * 1_000 + number)]).await;
                }
            })
        })
        .collect();
    futures::future::try_join_all(tasks).await.expect("no panic");

    let times: Vec<_> = contents(&fixture.journal()).await.iter().map(|entry| entry.recorded_at).collect();
    assert_eq!(times.len(), 1_200);
    assert!(times.is_sorted(), "{times:?}");
}

async fn bytes_are_stored_unchanged(fixture: impl Fixture) {
    let journal = fixture.journal();
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let samples = ["{\"a\":1 }\r\n\r\nPING\r\n".as_bytes(), &every_byte, b"\0", b" "];
    let new_entries: Vec<_> = (1..)
        .zip(samples)
        .map(|(number, bytes)| with_bytes(&one(number), Bytes::copy_from_slice(bytes)))
        .collect();
    append(&journal, &new_entries).await;

    assert_holds(&journal, &new_entries).await;
}

async fn entries_of_maximum_size_can_be_appended_in_one_batch(fixture: impl Fixture) {
    let journal = fixture.journal();
    let largest = |number| with_bytes(&one(number), vec![b'x'; 65_535]);
    let alone = [largest(1)];
    let together: Vec<_> = (2..=200).map(largest).collect();

    assert_eq!(append(&journal, &alone).await, recorded_at([1]));
    assert_eq!(append(&journal, &together).await, recorded_at(2..=200));

    assert_holds(&journal, &[&alone[..], &together].concat()).await;
}

async fn an_acknowledged_entry_can_be_read_immediately(fixture: impl Fixture) {
    let (journal, other) = (fixture.journal(), fixture.other().await);
    let mut follower = other.read(SubjectFilter::All, Position::START, Until::Forever);
    for number in 1..=50 {
        append(&journal, &[one(number)]).await;

        assert_eq!(other.head().await.expect("a head").position, at(number));
        assert!(other.entry(at(number)).await.expect("a result").is_some());
        assert_eq!(next(&mut follower).await.position(), at(number));
    }
}
