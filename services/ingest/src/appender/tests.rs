//! Groups on the memory journal. The history is never read: its results are part of a group. What a group holds is in
//! `grouping`.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use chrono::TimeDelta;
use ledger_journal::{Journal, MemoryJournal};
use ledger_projections::{SchemaVersion, Settings};

use super::*;

mod grouping;

fn event(id: u32, version: &str) -> Envelope {
    let json = format!(
        r#"{{"specversion": "1.0", "id": "{id}", "source": "urn:test",
            "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
            "data": {{"environment": "production", "service": "web", "release": {{"version": "{version}"}}}}}}"#
    );
    Envelope::parse(json.as_bytes()).expect("an event")
}

/// Returns projections that never answer.
fn no_projections() -> Projections {
    let settings = Settings {
        url: "postgres://user@127.0.0.1:1/none".into(),
        connections: 1,
        acquire_timeout: Duration::ZERO,
        schema_version: SchemaVersion::CURRENT,
    };
    Projections::new(&settings, TenantName::default()).expect("never connected")
}

fn writer() -> (GroupWriter, MemoryJournal) {
    let tenant = TenantName::default();
    let journal = MemoryJournal::new(tenant.clone(), || DateTime::UNIX_EPOCH);
    let writer = GroupWriter {
        tenant,
        journal: Arc::new(journal.clone()),
        projections: no_projections(),
        recent: Arc::new(Mutex::new(RecentAppends::new(10))),
        heads: RecentHeads::default(),
        append_failure: RecentAppendFailure::default(),
        clock: || DateTime::UNIX_EPOCH,
    };
    (writer, journal)
}

impl GroupWriter {
    fn entry(&self, event: &Envelope, known: Option<&KnownEntry>, order: &OrderedSubmission) -> PendingEntry {
        self.pending_entry(event, event.identity().key(), known, order.clone())
    }

    /// Appends reports, none of which the history has.
    async fn append_reports(&self, events: &[Envelope], order: &OrderedSubmission) -> Vec<RecordOutcome> {
        let entries = events.iter().map(|event| self.entry(event, None, order));
        self.append(Group::Reports { entries: entries.collect(), looked_up: vec![self.now()] }).await
    }

    async fn append_decided(&self, event: &Envelope, head: u64) -> Vec<RecordOutcome> {
        let entry = self.entry(event, None, &OrderedSubmission::default());
        self.append(Group::Decided { entry, head: Position::new(head) }).await
    }
}

fn recorded(position: u64) -> RecordOutcome {
    RecordOutcome::Recorded(Position::new(position))
}

fn duplicate(position: u64) -> RecordOutcome {
    RecordOutcome::Duplicate(Position::new(position))
}

fn conflict(position: u64) -> RecordOutcome {
    RecordOutcome::Conflict(Position::new(position))
}

#[tokio::test]
async fn a_group_is_recorded_in_order_and_remembered() {
    let (writer, _) = writer();
    let order = OrderedSubmission::default();

    let first = writer.append_reports(&[event(1, "v1"), event(2, "v1")], &order).await;
    let second = writer.append_reports(&[event(3, "v1"), event(2, "v1"), event(1, "v2")], &order).await;

    assert_eq!(first, [recorded(1), recorded(2)]);
    assert_eq!(second, [recorded(3), duplicate(2), conflict(1)]);
}

#[tokio::test]
async fn an_event_that_the_history_has_is_not_appended() {
    let (writer, journal) = writer();
    let (same, other) = (event(1, "v1"), event(2, "v1"));
    let known =
        |number, bytes: &Bytes| KnownEntry { position: Position::new(number), content: bytes.clone() };
    let (equal, different) = (known(7, same.bytes()), known(8, same.bytes()));
    let entries = vec![
        writer.entry(&same, Some(&equal), &OrderedSubmission::default()),
        writer.entry(&other, Some(&different), &OrderedSubmission::default()),
    ];

    let outcomes = writer.append(Group::Reports { entries, looked_up: vec![writer.now()] }).await;

    assert_eq!(outcomes, [duplicate(7), conflict(8)]);
    assert_eq!(journal.head().await.expect("a head").position, Position::START);
}

#[tokio::test]
async fn an_aborted_order_refuses_its_events_unless_they_are_recorded() {
    let (writer, _) = writer();
    let order = OrderedSubmission::default();
    writer.append_reports(&[event(1, "v1")], &order).await;
    order.abort();

    let outcomes = writer.append_reports(&[event(1, "v1"), event(2, "v1")], &order).await;

    assert_eq!(outcomes, [duplicate(1), RecordOutcome::Refused(RecordError::PredecessorFailed)]);
}

#[tokio::test]
async fn a_decided_event_is_recorded_right_after_its_head_or_not_at_all() {
    let (writer, journal) = writer();
    writer.append_reports(&[event(1, "v1")], &OrderedSubmission::default()).await;

    let wrong_head = writer.append_decided(&event(2, "v1"), 0).await;
    assert_eq!(writer.append_failure.reason(), None);
    let at_head = writer.append_decided(&event(2, "v1"), 1).await;
    let repeated = writer.append_decided(&event(2, "v1"), 1).await;

    let [RecordOutcome::Refused(RecordError::Journal(AppendError::WrongHead(_)))] = &wrong_head[..] else {
        panic!("{wrong_head:?}");
    };
    assert_eq!((at_head, repeated), (vec![recorded(2)], vec![duplicate(2)]));
    assert_eq!(journal.head().await.expect("a head").position, Position::new(2));
}

#[tokio::test]
async fn nothing_is_appended_to_an_older_copy_of_the_journal_after_a_reconnect() {
    let (writer, journal) = writer();
    writer.recent.lock().await.set_stream(Some(DateTime::UNIX_EPOCH), 0);
    writer.append_reports(&[event(1, "v1"), event(2, "v1")], &OrderedSubmission::default()).await;
    journal.restore_copy(Position::new(1));
    let order = OrderedSubmission::default();
    let other = [7, 8].map(|id| writer.entry(&event(id, "v1"), None, &order).new_entry);
    // Grows past the last entry of this process.
    journal.append(&other).await;

    let reports = writer.append_reports(&[event(4, "v1")], &OrderedSubmission::default()).await;
    let decided = writer.append_decided(&event(5, "v1"), 3).await;

    for outcomes in [reports, decided] {
        let [RecordOutcome::Refused(RecordError::Journal(AppendError::Unavailable(reason)))] = &outcomes[..]
        else {
            panic!("{outcomes:?}");
        };
        assert_eq!(reason, "the stream has a different entry at position 2");
    }
    assert_eq!(journal.head().await.expect("a head").position, Position::new(3));
    assert!(writer.append_failure.reason().is_some());
}

#[tokio::test]
async fn an_intact_journal_is_appended_to_after_a_reconnect() {
    let (writer, journal) = writer();
    writer.recent.lock().await.set_stream(Some(DateTime::UNIX_EPOCH), 0);
    writer.append_reports(&[event(1, "v1")], &OrderedSubmission::default()).await;
    journal.restore_copy(Position::new(1));

    let outcomes = writer.append_reports(&[event(2, "v1")], &OrderedSubmission::default()).await;

    assert_eq!(outcomes, [recorded(2)]);
}

/// A clock that is 200 seconds ahead from its fourth reading: the process was suspended while it appended.
fn suspended_while_appending() -> DateTime<Utc> {
    static READINGS: AtomicU32 = AtomicU32::new(0);
    let seconds = if READINGS.fetch_add(1, Ordering::Relaxed) < 3 { 0 } else { 200 };
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn is_unavailable(outcome: &RecordOutcome, expected: &str) -> bool {
    matches!(
        outcome,
        RecordOutcome::Refused(RecordError::Journal(AppendError::Unavailable(reason))) if reason == expected
    )
}

#[tokio::test]
async fn events_that_waited_too_long_after_their_look_up_are_not_appended() {
    let (writer, journal) = writer();
    let order = OrderedSubmission::default();
    let now = writer.now();
    let suspended = ClockReading { wall: now.wall - TimeDelta::seconds(26), ..now };
    let set_back = ClockReading { wall: now.wall + TimeDelta::seconds(1), ..now };

    for looked_up in [suspended, set_back] {
        let entries = vec![writer.entry(&event(1, "v1"), None, &order)];
        let outcomes = writer.append(Group::Reports { entries, looked_up: vec![now, looked_up] }).await;

        assert!(is_unavailable(&outcomes[0], LOOKUP_TOO_OLD), "{outcomes:?}");
    }

    assert!(order.is_aborted());
    assert_eq!(journal.head().await.expect("a head").position, Position::START);
}

#[tokio::test]
async fn an_event_that_is_recorded_long_after_its_look_up_is_not_reported_as_recorded() {
    let (mut writer, journal) = writer();
    writer.clock = suspended_while_appending;
    let order = OrderedSubmission::default();

    let late = writer.append_reports(&[event(1, "v1")], &order).await;
    let again = writer.append_reports(&[event(1, "v1")], &OrderedSubmission::default()).await;

    assert!(is_unavailable(&late[0], OUTCOME_TOO_LATE), "{late:?}");
    assert!(order.is_aborted());
    assert_eq!(journal.head().await.expect("a head").position, Position::new(1));
    // The history may have it at an earlier position; here it does not.
    assert_eq!(again, [duplicate(1)]);
}
