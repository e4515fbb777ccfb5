//! Plans: the lanes to change, the actions, and their order, to bring an environment to another composition.
//!
//! A plan depends only on the present lanes, the wanted composition, the lanes that may be removed, and the order in
//! the policy. The module `plan_issue` determines what blocks a plan.
//!
//! Decision 0015, sections 2 and 5, is the specification.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::digest;
use crate::event::{Action, Deploy, Ending, Payload, Plan, Policy, Removal, Step, Switch};
use crate::{
    Composition, EnvironmentName, LaneFilter, LaneFold, LaneRef, LiveRelease, Position, Release, ServiceName,
    ShortText, SlotName, TargetName,
};

/// The lanes of an environment, by service and target.
pub type Lanes = BTreeMap<(ServiceName, TargetName), LaneFold>;

/// The lanes that a plan may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals<'a> {
    /// Every lane of the scope that is not in the wanted composition.
    All,
    /// Only these lanes, which [the state at the point shows as removed](shown_removed). The rollback controller uses
    /// this variant: if a point merely lacks a lane, that does not imply that the lane should be removed.
    Shown(&'a BTreeSet<(ServiceName, TargetName)>),
}

/// Returns the lanes that had a release and were removed.
#[must_use]
pub fn shown_removed(lanes: &Lanes) -> BTreeSet<(ServiceName, TargetName)> {
    let removed = lanes.iter().filter(|(_, fold)| fold.live().is_none() && fold.since().is_some());
    removed.map(|(lane, _)| lane.clone()).collect()
}

impl Plan {
    /// Creates the plan that brings the lanes of a scope to a composition.
    ///
    /// - A lane that runs a release matching the wanted one has no step.
    /// - If an idle slot still holds the wanted release, the step switches traffic to that slot. Otherwise the step
    ///   deploys the release: in a lane with slots, to a slot other than the live one, if there is another.
    /// - Waves: a service comes after its dependencies. Within a service, targets come in the order of the policy,
    ///   those that it does not list last. Removals come after all other steps, dependents first.
    #[must_use]
    pub fn make(
        from: Position,
        present: &Lanes,
        wanted: &Composition,
        scope: &LaneFilter,
        policy: &Policy,
        removals: Removals<'_>,
    ) -> Self {
        let empty = LaneFold::default();
        let mut keys: BTreeSet<(&ServiceName, &TargetName)> =
            present.keys().map(|(service, target)| (service, target)).collect();
        keys.extend(wanted.lanes().map(|(service, target, _)| (service, target)));
        let mut steps: Vec<Step> = keys
            .into_iter()
            .filter(|(service, target)| scope.includes(service, target))
            .filter_map(|(service, target)| {
                let fold = present.get(&(service.clone(), target.clone())).unwrap_or(&empty);
                step(service, target, fold, wanted.lane(service, target))
            })
            .filter(|step| step.action != Action::Remove || removals.allow(&step.service, &step.target))
            .collect();
        assign_waves(&mut steps, policy);
        Self { from, steps }
    }

    /// Returns true if no lane runs anything after the plan is carried out.
    #[must_use]
    pub fn leaves_nothing(&self, present: &Lanes) -> bool {
        let stepped: BTreeSet<_> = self.steps.iter().map(|step| (&step.service, &step.target)).collect();
        let mut others =
            present.iter().filter(|((service, target), _)| !stepped.contains(&(service, target)));
        self.steps.iter().all(|step| step.to.is_none()) && others.all(|(_, fold)| fold.live().is_none())
    }

    /// Returns the SHA-256 of the steps, as `sha256:` and 64 hexadecimal digits. Each step is one line, ended by a line
    /// feed, of fields joined by tabs: wave, service, target, action, slot, and the five parts of the release before
    /// and of the release after; a missing field is empty. The position of the plan is not included: the same steps are
    /// the same plan.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for step in &self.steps {
            let slot = step.slot.as_ref().map_or("", SlotName::as_str);
            let prefix =
                format!("{}\t{}\t{}\t{}\t{slot}", step.wave, step.service, step.target, step.action.name());
            hash.update(prefix);
            for release in [&step.from, &step.to] {
                for part in release.as_ref().map_or([""; 5], Release::parts) {
                    hash.update("\t");
                    hash.update(part);
                }
            }
            hash.update("\n");
        }
        digest::text(hash)
    }
}

impl Removals<'_> {
    fn allow(self, service: &ServiceName, target: &TargetName) -> bool {
        match self {
            Self::All => true,
            Self::Shown(lanes) => lanes.contains(&(service.clone(), target.clone())),
        }
    }
}

impl Step {
    /// Returns the events that report the step, in order. Together they make the lane run what the step ends with.
    #[must_use]
    pub fn reports(
        &self,
        environment: &EnvironmentName,
        deployment: Option<&ShortText>,
        rollback_id: Option<&ShortText>,
    ) -> Vec<Payload> {
        let lane = LaneRef {
            environment: environment.clone(),
            service: self.service.clone(),
            target: Some(self.target.clone()),
        };
        let (deployment, rollback_id) = (deployment.cloned(), rollback_id.cloned());
        let switch = |lane: LaneRef, slot: &SlotName| {
            let (deployment, rollback_id) = (deployment.clone(), rollback_id.clone());
            Payload::TrafficSwitched(Switch { lane, slot: slot.clone(), deployment, rollback_id })
        };
        match (self.action, &self.to) {
            (Action::Remove, _) | (Action::Redeploy | Action::Add, None) => {
                vec![Payload::DeployRemoved(Removal { lane, slot: None, deployment, rollback_id })]
            }
            (Action::Switch, _) => self.slot.iter().map(|slot| switch(lane.clone(), slot)).collect(),
            (Action::Redeploy | Action::Add, Some(release)) => {
                let deployed = Payload::DeploySucceeded(Deploy {
                    lane: lane.clone(),
                    slot: self.slot.clone(),
                    deployment: deployment.clone(),
                    release: release.clone(),
                    reversible: true,
                    rollback_id: rollback_id.clone(),
                    ending: Ending::default(),
                });
                std::iter::once(deployed)
                    .chain(self.slot.iter().map(|slot| switch(lane.clone(), slot)))
                    .collect()
            }
        }
    }
}

impl Action {
    /// Returns the name of the action, as used in the API and in the digest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redeploy => "redeploy",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Switch => "switch",
        }
    }
}

/// Returns the step of one lane, without a wave; `None` if the lane needs no step.
fn step(
    service: &ServiceName,
    target: &TargetName,
    present: &LaneFold,
    wanted: Option<&LiveRelease>,
) -> Option<Step> {
    let live = present.live();
    let (action, slot) = match (&live, wanted) {
        (None, None) => return None,
        (Some(live), Some(wanted)) if wanted.release.matches(live.release) => return None,
        (Some(_), None) => (Action::Remove, None),
        (live, Some(wanted)) => match idle_slot_holding(present, &wanted.release) {
            Some(slot) => (Action::Switch, Some(slot.clone())),
            None => {
                let action = if live.is_some() { Action::Redeploy } else { Action::Add };
                (action, slot_to_deploy_to(present, wanted))
            }
        },
    };
    Some(Step {
        wave: 0,
        service: service.clone(),
        target: target.clone(),
        action,
        slot,
        from: live.map(|live| live.release.clone()),
        to: wanted.map(|wanted| wanted.release.clone()),
    })
}

/// Returns the idle slot that holds a release matching the wanted one.
fn idle_slot_holding<'l>(present: &'l LaneFold, wanted: &Release) -> Option<&'l SlotName> {
    present.idle().into_iter().find(|idle| wanted.matches(idle.release))?.slot
}

/// Returns the slot to deploy to. In a lane that runs nothing: the wanted slot. In a lane that runs without slots:
/// none. Otherwise a slot other than the live one, preferably the wanted one; the live slot if there is no other.
fn slot_to_deploy_to(present: &LaneFold, wanted: &LiveRelease) -> Option<SlotName> {
    let Some(live) = present.live() else { return wanted.slot.clone() };
    let live = live.slot?;
    wanted.slot.as_ref().into_iter().chain(present.slots()).find(|slot| *slot != live).or(Some(live)).cloned()
}

/// Numbers the waves of the steps and sorts the steps by wave.
fn assign_waves(steps: &mut [Step], policy: &Policy) {
    let depths = dependency_depths(policy);
    let deepest = depths.values().copied().max().unwrap_or(0);
    let order = |step: &Step| {
        let depth = depths.get(&step.service).copied().unwrap_or(0);
        let target = policy.target_order.iter().position(|target| *target == step.target);
        let target = target.unwrap_or(policy.target_order.len());
        match step.action {
            Action::Remove => (1, deepest - depth, target),
            Action::Redeploy | Action::Add | Action::Switch => (0, depth, target),
        }
    };
    let orders: BTreeSet<_> = steps.iter().map(order).collect();
    let waves: BTreeMap<_, u32> = orders.into_iter().zip(1..).collect();
    for step in &mut *steps {
        step.wave = waves.get(&order(step)).copied().unwrap_or(1);
    }
    // The sort is stable: within a wave, steps stay sorted by service and target.
    steps.sort_by_key(|step| step.wave);
}

/// Returns the length of the longest dependency chain below each service: 0 for a service without dependencies.
fn dependency_depths(policy: &Policy) -> BTreeMap<ServiceName, usize> {
    let mut depths = BTreeMap::new();
    for service in policy.dependencies.keys() {
        dependency_depth(service, policy, &mut depths, &mut BTreeSet::new());
    }
    depths
}

fn dependency_depth<'p>(
    service: &'p ServiceName,
    policy: &'p Policy,
    known: &mut BTreeMap<ServiceName, usize>,
    above: &mut BTreeSet<&'p ServiceName>,
) -> usize {
    if let Some(depth) = known.get(service) {
        return *depth;
    }
    // Policies with a circular dependency are rejected. Guard against endless recursion if one was recorded anyway.
    if !above.insert(service) {
        return 0;
    }
    let needs = policy.dependencies.get(service).into_iter().flatten();
    let deepest = needs.map(|need| dependency_depth(need, policy, known, above) + 1).max().unwrap_or(0);
    above.remove(service);
    known.insert(service.clone(), deepest);
    deepest
}

impl Policy {
    /// Returns a service that is part of a circular dependency, if there is one.
    #[must_use]
    pub fn circular_dependency(&self) -> Option<&ServiceName> {
        let mut acyclic = BTreeSet::new();
        self.dependencies.keys().find_map(|service| self.find_cycle(service, &mut Vec::new(), &mut acyclic))
    }

    /// Returns the direct and indirect dependencies of these services. Includes one of these services only if another
    /// one, or the service itself, depends on it.
    #[must_use]
    pub fn dependencies_of<'p>(
        &'p self,
        services: impl IntoIterator<Item = &'p ServiceName>,
    ) -> BTreeSet<&'p ServiceName> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = services.into_iter().collect();
        while let Some(service) = open.pop() {
            let needs = self.dependencies.get(service).into_iter().flatten();
            open.extend(needs.filter(|need| found.insert(*need)));
        }
        found
    }

    /// Returns these services with their direct and indirect dependents.
    #[must_use]
    pub fn with_dependents(&self, services: impl IntoIterator<Item = ServiceName>) -> BTreeSet<ServiceName> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = services.into_iter().collect();
        while let Some(service) = open.pop() {
            let depends = |needs: &Vec<ServiceName>| needs.contains(&service);
            let dependents = self.dependencies.iter().filter(|(_, needs)| depends(needs));
            let dependents: Vec<_> = dependents.map(|(dependent, _)| dependent.clone()).collect();
            if found.insert(service) {
                open.extend(dependents);
            }
        }
        found
    }

    /// Returns the first service that a depth-first search from `service` reaches twice on one path. `service` itself
    /// need not be part of the cycle.
    fn find_cycle<'p>(
        &'p self,
        service: &'p ServiceName,
        above: &mut Vec<&'p ServiceName>,
        acyclic: &mut BTreeSet<&'p ServiceName>,
    ) -> Option<&'p ServiceName> {
        if acyclic.contains(service) {
            return None;
        }
        if above.contains(&service) {
            return Some(service);
        }
        above.push(service);
        let needs = self.dependencies.get(service).into_iter().flatten();
        let repeated = needs.into_iter().find_map(|need| self.find_cycle(need, above, acyclic));
        above.pop();
        acyclic.insert(service);
        repeated
    }
}

#[cfg(test)]
mod tests;
