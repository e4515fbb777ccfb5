//! The way from what an environment runs to another composition: which lanes change, how, and in
//! which order.
//!
//! A plan is a function of the present lanes, the composition that is wanted, which lanes may be removed, and the policy's
//! order; nothing else. What stands in the way of carrying it out is `issue`'s matter.
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

/// The lanes of an environment, by service and target, as they are folded.
pub type Lanes = BTreeMap<(ServiceName, TargetName), LaneFold>;

/// The lanes that a plan may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals<'a> {
    /// Every lane of the scope that is not in the composition that is wanted.
    All,
    /// Of those only these: the ones that [the state at the point shows removed](shown_removed). The rollback controller
    /// leaves the others alone: that a point lacks a lane does not mean that somebody wanted it gone.
    Shown(&'a BTreeSet<(ServiceName, TargetName)>),
}

/// Returns the lanes of a state that had a release and were removed.
#[must_use]
pub fn shown_removed(lanes: &Lanes) -> BTreeSet<(ServiceName, TargetName)> {
    let removed = lanes.iter().filter(|(_, fold)| fold.live().is_none() && fold.since().is_some());
    removed.map(|(lane, _)| lane.clone()).collect()
}

impl Plan {
    /// Returns the plan that brings the lanes of a scope to a composition.
    ///
    /// - A lane that runs a release which matches the one that is wanted has no step.
    /// - Where the wanted release still stands in a slot that traffic does not reach, traffic is switched to
    ///   that slot. Otherwise it is deployed: in a lane with slots, to another slot than the live one, where
    ///   it has another.
    /// - Waves: a service comes after those that it depends on, and within that, targets come in the policy's
    ///   order, those that it does not name last. Removals come after everything else, dependents first.
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
            .filter(|(service, target)| scope.has(service, target))
            .filter_map(|(service, target)| {
                let fold = present.get(&(service.clone(), target.clone())).unwrap_or(&empty);
                step(service, target, fold, wanted.lane(service, target))
            })
            .filter(|step| step.action != Action::Remove || removals.allow(&step.service, &step.target))
            .collect();
        in_waves(&mut steps, policy);
        Self { from, steps }
    }

    /// Returns true if no lane runs anything once the plan is carried out.
    #[must_use]
    pub fn leaves_nothing(&self, present: &Lanes) -> bool {
        let stepped: BTreeSet<_> = self.steps.iter().map(|step| (&step.service, &step.target)).collect();
        let mut others =
            present.iter().filter(|((service, target), _)| !stepped.contains(&(service, target)));
        self.steps.iter().all(|step| step.to.is_none()) && others.all(|(_, fold)| fold.live().is_none())
    }

    /// SHA-256 of the steps, as `sha256:` and 64 hexadecimal digits: of one line a step, ended by a line
    /// feed, of wave, service, target, action, slot, and the five parts of the release before and of the
    /// release after, all joined by tabs; what there is not is empty. The position that the plan was made
    /// at is not part of it: the same steps are the same plan.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for step in &self.steps {
            let slot = step.slot.as_ref().map_or("", SlotName::as_str);
            let head =
                format!("{}\t{}\t{}\t{}\t{slot}", step.wave, step.service, step.target, step.action.name());
            hash.update(head);
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
    /// Returns the reports of the step, in order. Together they make the lane run what the step says.
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
    /// The action as one word.
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

/// One lane's step, in no wave yet.
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
        (live, Some(wanted)) => match slot_with(present, &wanted.release) {
            Some(slot) => (Action::Switch, Some(slot.clone())),
            None => {
                let action = if live.is_some() { Action::Redeploy } else { Action::Add };
                (action, slot_for(present, wanted))
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

/// The idle slot that holds a release.
fn slot_with<'l>(present: &'l LaneFold, wanted: &Release) -> Option<&'l SlotName> {
    present.idle().into_iter().find(|idle| wanted.matches(idle.release))?.slot
}

/// The slot to deploy to: none where the lane runs without slots, else one that traffic does not reach.
fn slot_for(present: &LaneFold, wanted: &LiveRelease) -> Option<SlotName> {
    let Some(live) = present.live() else { return wanted.slot.clone() };
    let live = live.slot?;
    wanted.slot.as_ref().into_iter().chain(present.slots()).find(|slot| *slot != live).or(Some(live)).cloned()
}

fn in_waves(steps: &mut [Step], policy: &Policy) {
    let depths = depths(policy);
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
    let places: BTreeSet<_> = steps.iter().map(order).collect();
    let waves: BTreeMap<_, u32> = places.into_iter().zip(1..).collect();
    for step in &mut *steps {
        step.wave = waves.get(&order(step)).copied().unwrap_or(1);
    }
    // Stable: within a wave steps stay sorted by service and target.
    steps.sort_by_key(|step| step.wave);
}

/// How many services stand, one on the other, below each: 0 for one that depends on none.
fn depths(policy: &Policy) -> BTreeMap<ServiceName, usize> {
    let mut depths = BTreeMap::new();
    for service in policy.dependencies.keys() {
        depth(service, policy, &mut depths, &mut BTreeSet::new());
    }
    depths
}

fn depth<'p>(
    service: &'p ServiceName,
    policy: &'p Policy,
    known: &mut BTreeMap<ServiceName, usize>,
    above: &mut BTreeSet<&'p ServiceName>,
) -> usize {
    if let Some(depth) = known.get(service) {
        return *depth;
    }
    // A policy with a circle is refused; one that was recorded all the same must not hang us.
    if !above.insert(service) {
        return 0;
    }
    let needs = policy.dependencies.get(service).into_iter().flatten();
    let deepest = needs.map(|need| depth(need, policy, known, above) + 1).max().unwrap_or(0);
    above.remove(service);
    known.insert(service.clone(), deepest);
    deepest
}

impl Policy {
    /// A service that, by the policy's dependencies, would have to come before itself.
    #[must_use]
    pub fn circular_dependency(&self) -> Option<&ServiceName> {
        let mut clear = BTreeSet::new();
        self.dependencies.keys().find_map(|service| self.met_again(service, &mut Vec::new(), &mut clear))
    }

    /// Returns the services that these depend on, and what those depend on. One of these is among them only if another
    /// depends on it.
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

    /// Returns these services, those that depend on them, and what depends on those.
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

    /// The first service that is met again on a way down; where the way began need not be in the circle.
    fn met_again<'p>(
        &'p self,
        service: &'p ServiceName,
        above: &mut Vec<&'p ServiceName>,
        clear: &mut BTreeSet<&'p ServiceName>,
    ) -> Option<&'p ServiceName> {
        if clear.contains(service) {
            return None;
        }
        if above.contains(&service) {
            return Some(service);
        }
        above.push(service);
        let needs = self.dependencies.get(service).into_iter().flatten();
        let again = needs.into_iter().find_map(|need| self.met_again(need, above, clear));
        above.pop();
        clear.insert(service);
        again
    }
}

#[cfg(test)]
mod tests;
