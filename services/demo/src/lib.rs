//! A generated release history, for the quickstart and for load tests.
//!
//! Twelve services of a shop are promoted through dev and staging to production, with failing checks, failing
//! deploys, slot switches, rollbacks, approvals, a freeze at the end of the year and late reports.
//! Invariants: the events are the same, byte for byte, on every machine and in every run; each event is
//! valid, and each request may follow the events before it; no event is after the end of October 2026; memory
//! does not grow with the length.

mod calendar;
mod catalogue;
mod production;
mod products;
mod promotion;
mod random;
mod rollback;
mod world;

use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Event, Mark, MarkedStatus, Payload, ReleasePointId, RollbackRequest};
use ledger_domain::{EventId, Identity, LaneFilter, Position, Source};

use calendar::{Calendar, DEFAULT_DAYS};
use production::{PlannedRollback, Production};
use world::{Draft, DraftKind, World};

/// Returns the demo history: 18 months by default, or exactly this many events. A history longer than real
/// time allows is compressed, and has a source of its own, since it is a different history.
///
/// Rollbacks and marks name positions: those of their events in a ledger that contains nothing but this
/// history. Any other ledger rejects the rollbacks, because they were not planned there.
pub fn history(events: Option<usize>) -> impl Iterator<Item = Envelope> + Send {
    History::new(events).take(events.unwrap_or(usize::MAX))
}

struct History {
    world: World,
    source: Source,
    drafts: std::vec::IntoIter<Draft>,
    /// The position of the last event.
    position: Position,
    production: Production,
    days: u64,
}

impl History {
    fn new(events: Option<usize>) -> Self {
        let calendar = Calendar::of(events);
        let source = match events {
            Some(events) if !calendar.is_real_time() => format!("urn:release-ledger:demo:{events}"),
            _ => "urn:release-ledger:demo".to_owned(),
        };
        Self {
            world: World::new(calendar),
            source: Source::parse(&source).expect("a URN of digits and letters is a source"),
            drafts: Vec::new().into_iter(),
            position: Position::START,
            production: Production::new(),
            days: if events.is_some() { u64::MAX } else { DEFAULT_DAYS },
        }
    }

    /// Creates the event of a draft; none if the draft only sets the baseline.
    fn envelope(&mut self, draft: Draft) -> Option<Envelope> {
        let payload = match draft.kind {
            DraftKind::Baseline => {
                self.production.set_baseline(self.position);
                return None;
            }
            DraftKind::Payload(payload) => payload,
            DraftKind::RollbackRequest { rollback, initiated_by } => {
                let PlannedRollback { to, plan, policy } = self.production.plan_rollback(self.position);
                let plan_digest = catalogue::parsed_digest(&plan.digest());
                Payload::RollbackRequested(RollbackRequest {
                    rollback,
                    to,
                    at: None,
                    source: None,
                    scope: LaneFilter::default(),
                    plan,
                    plan_digest,
                    initiated_by,
                    automatic: false,
                    force: false,
                    policy,
                    cause: None,
                })
            }
            DraftKind::KnownGood { environment, name } => Payload::ReleasePointMarked(Mark {
                point: ReleasePointId { environment, position: self.position },
                status: MarkedStatus::KnownGood,
                name: Some(name),
            }),
        };
        self.position = self.position.next();
        let id = EventId::parse(&format!("{:08}", self.position.get())).expect("digits are an id");
        let occurred_at = self.world.calendar.time(draft.occurred);
        self.production.apply(&payload, self.position, &id, occurred_at);
        let event = Event {
            payload,
            actor: draft.actor,
            sender: None,
            reason: draft.reason,
            links: draft.links,
            corrects: None,
        };
        let identity = Identity { source: self.source.clone(), id };
        Some(
            Envelope::compose(identity, occurred_at, event)
                .expect("the demo's events are below the size limit"),
        )
    }
}

impl Iterator for History {
    type Item = Envelope;

    fn next(&mut self) -> Option<Envelope> {
        loop {
            if let Some(draft) = self.drafts.next() {
                if let Some(envelope) = self.envelope(draft) {
                    return Some(envelope);
                }
            } else if self.world.today.number < self.days {
                self.drafts = self.world.play_day().into_iter();
            } else {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
