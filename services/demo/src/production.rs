//! The state of production in a ledger that contains this history; used to plan rollbacks.
//!
//! Invariant: the state reflects the events up to the last position and no later ones, so that a ledger
//! accepts a request made from it.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Plan, Policy};
use ledger_domain::{
    Composition, EnvironmentName, EventId, EventRef, LaneFilter, Lanes, Position, Removals, TrackEntry,
};

use super::catalogue;
use super::products::Stage;

pub(super) struct Production {
    environment: EnvironmentName,
    lanes: Lanes,
    composition: Composition,
    policy: Policy,
    /// The position at which the policy was declared.
    declared: Option<Position>,
    /// The target of rollbacks: the last state without a change in progress.
    baseline: Baseline,
}

#[derive(Default)]
struct Baseline {
    position: Position,
    composition: Composition,
}

/// A rollback to the baseline: its target, plan and policy.
pub(super) struct PlannedRollback {
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

    /// Applies the next event.
    pub(super) fn apply(
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
        // The demo names the target of every service that has several.
        let key = (lane.service.clone(), lane.target.clone().unwrap_or_default());
        let since = EventRef { occurred_at, position, event_id: event_id.clone() };
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.apply(&track, TrackEntry { effect, since }).altered {
            self.composition.set(key.0, key.1, lane.live().map(|live| live.to_owned()));
        }
    }

    /// Makes the current state the baseline.
    pub(super) fn set_baseline(&mut self, position: Position) {
        self.baseline = Baseline { position, composition: self.composition.clone() };
    }

    /// Plans the rollback from the current state to the baseline.
    pub(super) fn plan_rollback(&self, now: Position) -> PlannedRollback {
        let Baseline { position, composition } = &self.baseline;
        PlannedRollback {
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
