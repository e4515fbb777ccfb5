//! Production as a ledger that holds this history has it: what a rollback is planned by.
//!
//! Invariant: it knows what the ledger knows at the last event's position, and nothing that is to come. So
//! a request that is made from it is one that a ledger takes.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Plan, Policy};
use ledger_domain::{
    Composition, EnvironmentName, EventId, LaneFilter, Lanes, Position, Removals, Since, TrackEntry,
};

use super::catalogue;
use super::landscape::Stage;

pub(super) struct Production {
    environment: EnvironmentName,
    lanes: Lanes,
    composition: Composition,
    policy: Policy,
    /// Where the policy is declared.
    declared: Option<Position>,
    /// The last point at which it was as it should be.
    baseline: Baseline,
}

#[derive(Default)]
struct Baseline {
    position: Position,
    composition: Composition,
}

/// The way back to the baseline, and what it was found by.
pub(super) struct WayBack {
    pub(super) to: Position,
    pub(super) plan: Plan,
    pub(super) policy: Option<Position>,
}

impl Production {
    pub(super) fn new() -> Self {
        Self {
            environment: catalogue::environment_name(Stage::Production.name()),
            lanes: Lanes::new(),
            composition: Composition::default(),
            policy: Policy::default(),
            declared: None,
            baseline: Baseline::default(),
        }
    }

    /// Takes one more event into account.
    pub(super) fn note(
        &mut self,
        payload: &Payload,
        position: Position,
        event_id: &EventId,
        occurred_at: DateTime<Utc>,
    ) {
        if payload.environment() != Some(&self.environment) {
            return;
        }
        if let Payload::EnvironmentDeclared(_, policy) = payload {
            self.policy = policy.clone();
            self.declared = Some(position);
        }
        let Some((lane, track, effect)) = payload.change() else { return };
        // The demo names a target where a service has several.
        let key = (lane.service.clone(), lane.target.clone().unwrap_or_default());
        let since = Since { occurred_at, position, event_id: event_id.clone() };
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.apply(&track, TrackEntry { effect, since }).altered {
            self.composition.set(key.0, key.1, lane.live().map(|live| live.to_owned()));
        }
    }

    /// It is as it should be now.
    pub(super) fn set_baseline(&mut self, position: Position) {
        self.baseline = Baseline { position, composition: self.composition.clone() };
    }

    /// The way from what runs now back to the baseline.
    pub(super) fn way_back(&self, now: Position) -> WayBack {
        let Baseline { position, composition } = &self.baseline;
        WayBack {
            to: *position,
            plan: Plan::make(
                now,
                &self.lanes,
                composition,
                &LaneFilter::default(),
                &self.policy,
                Removals::All,
            ),
            policy: self.declared,
        }
    }
}
