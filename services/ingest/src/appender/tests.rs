//! Groups on the memory journal. The history is never read: its results are part of a group.

use chrono::DateTime;
use ledger_domain::event::Actor;
use ledger_domain::{EnvironmentName, LaneFilter, LongText, PointRef, ShortText};
use ledger_journal::{Journal, MemoryJournal};
use ledger_projections::{SchemaVersion, Settings};

use super::*;
use crate::{PlanRequest, RequestRollback};

fn event(id: u32, version: &str) -> Envelope {
    let json = format!(
        r#"{{"specversion": "1.0", "id": "{id}", "source": "urn:test",
            "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
            "data": {{"environment": "production", "service": "web", "release": {{"version": "{version}"}}}}}}"#
    );
    Envelope::parse(json.as_bytes()).expect("an event")
}

fn writer() -> (GroupWriter, MemoryJournal) {
    let settings = Settings {
        url: "postgres://user@127.0.0.1:1/none".into(),
        connections: 1,
        acquire_timeout: Duration::ZERO,
        schema_version: SchemaVersion::CURRENT,
    };
    let tenant = TenantName::default();
    let journal = MemoryJournal::new(tenant.clone(), || DateTime::UNIX_EPOCH);
    let writer = GroupWriter {
        tenant: tenant.clone(),
        journal: Arc::new(journal.clone()),
        projections: Projections::new(&settings, tenant).expect("never connected"),
        recent: Arc::new(Mutex::new(RecentAppends::new(10))),
        append_failure: RecentAppendFailure::default(),
    };
    (writer, journal)
}

impl GroupWriter {
    /// Appends reports, none of which the history has.
    async fn append_reports(&self, events: &[Envelope], order: &OrderedSubmission) -> Vec<RecordOutcome> {
        let entries = events.iter().map(|event| self.pending_entry(event, None, order.clone()));
        self.append(Group::Reports(entries.collect())).await
    }

    async fn append_decided(&self, event: &Envelope, head: u64) -> Vec<RecordOutcome> {
        let entry = self.pending_entry(event, None, OrderedSubmission::default());
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
    let known = |position, leaf_hash| Some(EntryLocation { position: Position::new(position), leaf_hash });
    let entries = vec![
        writer.pending_entry(&same, known(7, leaf_hash(same.bytes())), OrderedSubmission::default()),
        writer.pending_entry(&other, known(8, leaf_hash(b"{}")), OrderedSubmission::default()),
    ];

    let outcomes = writer.append(Group::Reports(entries)).await;

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

/// Otherwise the same rollback request, sent to two processes at once, would be a conflict with itself.
#[tokio::test]
async fn a_decision_that_another_process_recorded_meanwhile_is_made_again() {
    let (writer, _) = writer();
    let request = Request::Rollback(Box::new(RequestRollback {
        plan_request: PlanRequest {
            environment: EnvironmentName::parse("production").expect("a name"),
            to: PointRef::parse("latest").expect("a point"),
            scope: LaneFilter::default(),
        },
        rollback_id: ShortText::parse("r-1").expect("an id"),
        reason: LongText::parse("a leak").expect("a reason"),
        initiated_by: Actor {
            kind: ShortText::parse("person").expect("a type"),
            name: ShortText::parse("ada").expect("a name"),
        },
        force: false,
        expected_position: None,
        plan_digest: None,
    }));
    let decided = writer.append_decided(&event(1, "v1"), 0).await.remove(0);
    let decided_later = writer.append_decided(&event(1, "v2"), 0).await.remove(0);
    let of_event = decided_outcome(&Request::Event(Box::new(event(1, "v2"))), decided_later.clone());

    assert_eq!(decided_outcome(&request, decided), recorded(1));
    let again = decided_outcome(&request, decided_later);
    let RecordOutcome::Refused(RecordError::Journal(AppendError::WrongHead(_))) = again else {
        panic!("{again:?}");
    };
    assert_eq!(of_event, conflict(1));
}
