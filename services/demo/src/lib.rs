//! A history of our own making: for the quickstart, and for load.
//!
//! A shop's twelve services go through dev and staging to production, with checks that fail, deploys
//! that break off, cut-overs between slots, rollbacks, approvals, a freeze at the year's end and
//! reports that come late. Invariants: the same events byte for byte on every machine and every run;
//! a valid event each, and what is asked for may be asked for after the events before it; none after the
//! end of October 2026; memory does not grow with the length.

mod calendar;
mod catalogue;
mod landscape;
mod production;
mod promotion;
mod random;
mod undo;
mod world;

use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Event, Mark, MarkedStatus, Payload, ReleasePointId, RollbackRequest};
use ledger_domain::{EventId, Identity, LaneFilter, Position, Source};

use calendar::{Calendar, NATURAL_DAYS};
use production::{Production, WayBack};
use world::{Draft, What, World};

/// The demo history: of its natural length, 18 months, or of exactly so many events. What is longer
/// than real time allows is played faster, and has a source of its own, since it is another history.
///
/// Rollbacks and marks name positions: those that their events have in a ledger that holds nothing
/// but this history. Any other ledger refuses a rollback of it, since it was not planned there.
pub fn history(events: Option<usize>) -> impl Iterator<Item = Envelope> + Send {
    History::new(events).take(events.unwrap_or(usize::MAX))
}

struct History {
    world: World,
    source: Source,
    drafts: std::vec::IntoIter<Draft>,
    /// The last event's.
    position: Position,
    production: Production,
    days: u64,
}

impl History {
    fn new(events: Option<usize>) -> Self {
        let calendar = Calendar::of(events);
        let source = match events {
            Some(events) if !calendar.is_real() => format!("urn:release-ledger:demo:{events}"),
            _ => "urn:release-ledger:demo".to_owned(),
        };
        Self {
            world: World::new(calendar),
            source: Source::parse(&source).expect("a URN of digits and letters is a source"),
            drafts: Vec::new().into_iter(),
            position: Position::START,
            production: Production::new(),
            days: if events.is_some() { u64::MAX } else { NATURAL_DAYS },
        }
    }

    /// The draft's event, or nothing if it only marks a place.
    fn envelope(&mut self, draft: Draft) -> Option<Envelope> {
        let payload = match draft.what {
            What::Baseline => {
                self.production.set_baseline(self.position);
                return None;
            }
            What::Payload(payload) => payload,
            What::RollbackRequest { rollback, initiated_by } => {
                let WayBack { to, plan, policy } = self.production.way_back(self.position);
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
            What::KnownGood { environment, name } => Payload::ReleasePointMarked(Mark {
                point: ReleasePointId { environment, position: self.position },
                status: MarkedStatus::KnownGood,
                name: Some(name),
            }),
        };
        self.position = self.position.next();
        let id = EventId::parse(&format!("{:08}", self.position.get())).expect("digits are an id");
        let occurred_at = self.world.calendar.time(draft.occurred);
        self.production.note(&payload, self.position, &id, occurred_at);
        let event =
            Event { payload, actor: draft.actor, reason: draft.reason, links: draft.links, corrects: None };
        let identity = Identity { source: self.source.clone(), id };
        Some(Envelope::compose(identity, occurred_at, event).expect("the demo's events are small"))
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
                self.drafts = self.world.play().into_iter();
            } else {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
