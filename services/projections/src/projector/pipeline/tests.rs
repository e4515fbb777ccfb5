//! Batches of the pipeline, and the decoding of records.

use bytes::Bytes;
use ledger_codec::cloudevents::{Envelope, ForeignReason};
use ledger_domain::TenantName;
use ledger_journal::Entry;

use super::*;
use crate::postgres::{SchemaVersion, Settings};

fn entry(bytes: &str) -> Record {
    let bytes = Bytes::from(bytes.to_owned());
    Record::Entry(Entry { position: Position::new(2), recorded_at: DateTime::UNIX_EPOCH, bytes })
}

fn gaps(count: u64) -> Group {
    Ok((1..=count).map(|position| Decoded::Gap(Position::new(position))).collect())
}

#[tokio::test(start_paused = true)]
async fn a_lone_entry_is_not_delayed() {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let mut pace = Pace::default();
    let began = Instant::now();

    for _ in 0..3 {
        let (records, end) = gather(Some(gaps(1)), &mut groups, pace.next_batch_at()).await;
        assert_eq!((records.len(), end.is_none()), (1, true));
        pace.record_batch(records.len());
    }

    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn a_batch_after_a_loaded_one_has_the_records_of_the_interval() {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let mut pace = Pace::default();
    let began = Instant::now();
    pace.record_batch(LOADED_BATCH_RECORDS);
    let late = tokio::spawn(async move {
        for _ in 0..4 {
            tokio::time::sleep(BATCH_INTERVAL / 3).await;
            sender.send(gaps(1)).await.expect("the receiver exists");
        }
        sender
    });

    let (records, end) = gather(Some(gaps(1)), &mut groups, pace.next_batch_at()).await;

    assert!(began.elapsed() >= BATCH_INTERVAL && began.elapsed() < BATCH_INTERVAL * 2);
    // The last group may come at the time at which the batch is closed.
    assert!((3..=4).contains(&records.len()) && end.is_none(), "{} records", records.len());
    drop(late.await.expect("a sender"));
}

#[tokio::test(start_paused = true)]
async fn the_first_batch_after_a_pause_is_not_delayed() {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let mut pace = Pace::default();
    pace.record_batch(LOADED_BATCH_RECORDS);
    tokio::time::advance(BATCH_INTERVAL).await;
    let resumed = Instant::now();

    let (records, _) = gather(Some(gaps(1)), &mut groups, pace.next_batch_at()).await;

    assert_eq!((records.len(), resumed.elapsed()), (1, Duration::ZERO));
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_not_delayed() {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let mut pace = Pace::default();
    pace.record_batch(LOADED_BATCH_RECORDS);
    let began = Instant::now();

    let full = gaps(BATCH_RECORDS as u64);
    let (records, _) = gather(Some(full), &mut groups, pace.next_batch_at()).await;

    assert_eq!((records.len(), began.elapsed()), (BATCH_RECORDS, Duration::ZERO));
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_source_closes_a_batch_at_once() {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let mut pace = Pace::default();
    pace.record_batch(LOADED_BATCH_RECORDS);
    let began = Instant::now();
    drop(sender);

    let (records, end) = gather(Some(gaps(2)), &mut groups, pace.next_batch_at()).await;

    assert!(matches!(end, Some(End::Source)));
    assert_eq!((records.len(), began.elapsed()), (2, Duration::ZERO));
}

#[test]
fn a_foreign_entry_has_its_leaf_and_stops_nothing() {
    let record = entry("garbage");
    let expected = record.leaf_hash();

    let decoded = decode_one(record, None);

    let Ok(Decoded::Foreign { entry, lacks, leaf }) = decoded else { panic!("no foreign entry") };
    assert_eq!((entry.position, lacks, leaf), (Position::new(2), ForeignReason::NotAnObject, expected));
}

#[test]
fn an_entry_of_a_newer_version_stops_the_projector() {
    let newer =
        r#"{"specversion":"1.0","id":"1","source":"urn:test","type":"io.releaseledger.ring.widened.v1"}"#;

    let decoded = decode_one(entry(newer), None);

    let Err(ProjectionError::Stopped(StopReason::NewerEntry { position, .. })) = decoded else {
        panic!("not stopped")
    };
    assert_eq!(position, Position::new(2));
}

#[tokio::test]
async fn failed_checks_of_the_active_generation_end_a_wait_for_one() {
    let settings = Settings {
        url: "postgres://user@127.0.0.1:1/none".into(),
        connections: 1,
        acquire_timeout: Duration::ZERO,
        schema_version: SchemaVersion::CURRENT,
    };
    let projections = Projections::new(&settings, TenantName::default()).expect("never connected");
    let (generation, other) =
        (GenerationHandle::new(&projections, 1), GenerationHandle::new(&projections, 2));
    projections.activate(1);
    let from = projections.failed_checks_applied();
    let mut waiting = Box::pin(projections.wait_for_failed_check(from, Duration::from_secs(3_600)));

    generation.count_failed_checks(0);
    other.count_failed_checks(3);
    assert!(futures::poll!(&mut waiting).is_pending());
    generation.count_failed_checks(2);
    waiting.await;

    assert_eq!(projections.failed_checks_applied(), from + 2);
}

#[test]
fn an_entry_that_this_process_recorded_is_not_parsed_again() {
    let json = r#"{"specversion": "1.0", "id": "1", "source": "urn:test",
        "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
        "data": {"environment": "production", "service": "web", "release": {"version": "v1"}}}"#;
    let event = Envelope::parse(json.as_bytes()).expect("an event");
    let record = || {
        let entry = Entry {
            position: Position::new(2),
            recorded_at: DateTime::UNIX_EPOCH,
            bytes: event.bytes().clone(),
        };
        Record::Entry(entry)
    };
    let recorded = RecordedEnvelopes::default();
    recorded.extend([(Position::new(2), event.clone())]);

    let (taken, parsed) = (decode_one(record(), Some(&recorded)), decode_one(record(), Some(&recorded)));

    for decoded in [taken, parsed] {
        let Ok(Decoded::Entry { envelope, key, .. }) = decoded else { panic!("no entry") };
        assert_eq!((&*envelope, key), (&event, event.identity().key()));
    }
}
