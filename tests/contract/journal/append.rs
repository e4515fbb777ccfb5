//! Appending: positions, order, time, and what an entry is.

use bytes::Bytes;
use chrono::Timelike;
use ledger_domain::Position;
use ledger_journal::{SubjectFilter, Until};

use super::bench::Bench;
use super::new_entries::{numbered, one, with_bytes};
use super::reading::{append, assert_holds, at, contents, entry_of, next, read, recorded_at};

for_every_journal!(
    positions_follow_one_another_whatever_the_size_of_a_call,
    an_empty_call_is_answered_with_nothing,
    the_head_is_the_last_position_of_one_and_the_same_journal,
    an_entry_is_found_at_its_position_and_nothing_elsewhere,
    time_never_goes_back_and_is_kept_in_whole_microseconds,
    time_never_goes_back_under_concurrent_calls,
    bytes_pass_through_unread,
    the_greatest_entries_are_taken_together,
    what_is_answered_can_be_read,
);
for_three_nodes!(positions_follow_one_another_whatever_the_size_of_a_call, what_is_answered_can_be_read,);

async fn positions_follow_one_another_whatever_the_size_of_a_call(bench: impl Bench) {
    let journal = bench.journal();
    let mut end = 0;
    for size in [1, 7, 8, 1_000, 2_500] {
        let range = end + 1..=end + size;
        let outcomes = append(&journal, &numbered(range.clone())).await;
        assert_eq!(outcomes, recorded_at(range), "a call of {size}");
        end += size;
    }
    assert_holds(&journal, &numbered(1..=end)).await;
}

async fn an_empty_call_is_answered_with_nothing(bench: impl Bench) {
    let journal = bench.journal();

    assert_eq!(append(&journal, &[]).await, []);

    assert_holds(&journal, &[]).await;
}

async fn the_head_is_the_last_position_of_one_and_the_same_journal(bench: impl Bench) {
    let journal = bench.journal();
    let before = journal.head().await.expect("a head");
    append(&journal, &numbered(1..=9)).await;
    let after = journal.head().await.expect("a head");
    let beside = bench.beside().await.head().await.expect("a head");

    assert_eq!(before.position, Position::START);
    assert_eq!(after.position, at(9));
    assert_eq!(after.created, before.created);
    assert_eq!(beside, after);
}

async fn an_entry_is_found_at_its_position_and_nothing_elsewhere(bench: impl Bench) {
    let journal = bench.journal();
    append(&journal, &numbered(1..=10)).await;

    let entries = read(&journal, SubjectFilter::All, 0, 10).await;
    for entry in entries.into_iter().map(entry_of) {
        assert_eq!(journal.entry(entry.position).await, Ok(Some(entry)));
    }
    for nowhere in [0, 11, 1_000_000, u64::MAX] {
        assert_eq!(journal.entry(at(nowhere)).await, Ok(None), "{nowhere}");
    }
}

async fn time_never_goes_back_and_is_kept_in_whole_microseconds(bench: impl Bench) {
    let journal = bench.journal();
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

async fn time_never_goes_back_under_concurrent_calls(bench: impl Bench) {
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let journal = bench.journal();
            tokio::spawn(async move {
                for number in 0..300 {
                    append(&journal, &[one(task * 1_000 + number)]).await;
                }
            })
        })
        .collect();
    futures::future::try_join_all(tasks).await.expect("no panic");

    let times: Vec<_> = contents(&bench.journal()).await.iter().map(|entry| entry.recorded_at).collect();
    assert_eq!(times.len(), 1_200);
    assert!(times.is_sorted(), "{times:?}");
}

async fn bytes_pass_through_unread(bench: impl Bench) {
    let journal = bench.journal();
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let odd = ["{\"a\":1 }\r\n\r\nPING\r\n".as_bytes(), &every_byte, b"\0", b" "];
    let new_entries: Vec<_> = (1..)
        .zip(odd)
        .map(|(number, bytes)| with_bytes(&one(number), Bytes::copy_from_slice(bytes)))
        .collect();
    append(&journal, &new_entries).await;

    assert_holds(&journal, &new_entries).await;
}

async fn the_greatest_entries_are_taken_together(bench: impl Bench) {
    let journal = bench.journal();
    let greatest = |number| with_bytes(&one(number), vec![b'x'; 65_535]);
    let alone = [greatest(1)];
    let together: Vec<_> = (2..=200).map(greatest).collect();

    assert_eq!(append(&journal, &alone).await, recorded_at([1]));
    assert_eq!(append(&journal, &together).await, recorded_at(2..=200));

    assert_holds(&journal, &[&alone[..], &together].concat()).await;
}

async fn what_is_answered_can_be_read(bench: impl Bench) {
    let (journal, beside) = (bench.journal(), bench.beside().await);
    let mut following = beside.read(SubjectFilter::All, Position::START, Until::Forever);
    for number in 1..=50 {
        append(&journal, &[one(number)]).await;

        assert_eq!(beside.head().await.expect("a head").position, at(number));
        assert!(beside.entry(at(number)).await.expect("an answer").is_some());
        assert_eq!(next(&mut following).await.position(), at(number));
    }
}
