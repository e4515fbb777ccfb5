//! A naive reference implementation: computes the gate's decision at the last deploy of a history directly from all
//! events, without incremental state, by examining every second.

mod artifacts;

use std::collections::BTreeSet;

use super::naive_promotion::{best_at_each_target, counts};
use super::naive_spans::spans_where;
use super::{Entry, name, time};
use crate::checks::{LaneDeploy, speaks_of, straddles};
use crate::event::{ApprovalSubject, Event, Payload, Policy, Revoked, Validation, ValidationSubject};
use crate::gate::{
    ApprovalVote, CompositionEvidence, Decision, DeployVote, GateInput, PromotionEvidence, RolledBackRelease,
    SucceededDeploy, TargetEvidence, decide,
};
use crate::known_good::{CheckResult, CheckResults, Marked};
use crate::plan_issue::{ActiveFreeze, RecordedFreeze, Revocations, RevokedArtifact};
use crate::retirement::Retirements;
use crate::rollback::RollbackPhase;
use crate::span::{Span, longest};
use crate::{
    Artifact, CompositionId, CompositionIndex, Effect, EnvironmentName, EventId, EventRef, EventTime,
    FreezePeriod, Lane, LaneFold, LaneRef, Position, Release, ServiceName, ShortText, SlotName, TargetName,
    Track, TrackEntry,
};

/// The last second at which an event of a history occurs.
pub(super) const LAST_SECOND: i64 = 60;

/// Returns the moment after everything that occurred up to the end of a second.
fn end_of(second: i64) -> EventTime {
    EventTime::end_of(time(second))
}

/// An effective change of a lane.
struct Change {
    lane: Lane,
    track: Track,
    entry: TrackEntry,
    deployment: Option<ShortText>,
    rollback_id: Option<ShortText>,
    late: bool,
}

/// The events of a history, with corrections applied.
struct Model {
    entries: Vec<(EventTime, Event)>,
    /// The indexes of corrected events.
    corrected: BTreeSet<usize>,
    changes: Vec<Change>,
}

impl Model {
    /// Creates a model of entries at positions 1, 2, 3 …
    fn new(entries: &[Entry]) -> Self {
        let mut model = Self { entries: Vec::new(), corrected: BTreeSet::new(), changes: Vec::new() };
        let mut corrected_by: Vec<Option<usize>> = vec![None; entries.len()];
        for (index, (entry, position)) in entries.iter().zip(1..).enumerate() {
            let (event, at) = (entry.event(), EventTime::new(time(entry.at), Position::new(position)));
            let corrects = entry.corrects.map(|position| position as usize - 1);
            let corrects = corrects.filter(|of| *of < index && event.payload.is_correctable());
            if let Some(mut of) = corrects.filter(|of| model.entries[*of].1.payload.is_correctable()) {
                while let Some(next) = corrected_by[of] {
                    of = next;
                }
                corrected_by[of] = Some(index);
                model.corrected.insert(of);
                let position = model.entries[of].0.position;
                model.changes.retain(|change| change.entry.since.position != position);
            }
            model.apply_change(&event, at);
            model.entries.push((at, event));
        }
        model
    }

    fn apply_change(&mut self, event: &Event, at: EventTime) {
        let Some((named, track, effect)) = event.payload.change() else { return };
        let Some(target) = self.target_of(named) else { return };
        let lane = named.at(target);
        let EventTime { occurred_at, position } = at;
        let event_id = EventId::parse(&position.to_string()).expect("an id");
        let entry = TrackEntry { effect, since: EventRef { occurred_at, position, event_id } };
        let late = self.changes.iter().any(|other| other.lane == lane && other.entry.since.event_time() > at);
        let (deployment, rollback_id) =
            (event.payload.deployment().cloned(), event.payload.rollback_id().cloned());
        self.changes.push(Change { lane, track, entry, deployment, rollback_id, late });
    }

    fn target_of(&self, named: &LaneRef) -> Option<TargetName> {
        let lanes = self.lanes(&named.environment);
        let of_service = lanes.iter().filter(|lane| lane.service == named.service);
        let status = self.retirements(&named.environment).last();
        let occupancy = |lane: &Lane| self.fold(lane, LAST_SECOND).occupancy(status);
        named.only_target(of_service.map(|lane| (&lane.target, occupancy(lane)))).ok()
    }

    fn lanes(&self, environment: &EnvironmentName) -> BTreeSet<Lane> {
        let lanes = self.changes.iter().map(|change| &change.lane);
        lanes.filter(|lane| lane.environment == *environment).cloned().collect()
    }

    fn retirements(&self, environment: &EnvironmentName) -> Retirements {
        let mut retirements = Retirements::default();
        for (EventTime { occurred_at: at, position }, event) in &self.entries {
            match &event.payload {
                Payload::EnvironmentRetired(name) if name == environment => {
                    retirements.add(*at, *position, true);
                }
                Payload::EnvironmentDeclared(name, _) if name == environment => {
                    retirements.add(*at, *position, false);
                }
                _ => {}
            }
        }
        retirements
    }

    fn fold(&self, lane: &Lane, until: i64) -> LaneFold {
        let mut fold = LaneFold::default();
        let changes = self.changes.iter().filter(|change| change.lane == *lane);
        for change in changes.filter(|change| change.entry.since.occurred_at <= time(until)) {
            fold.insert(change.track.clone(), change.entry.clone());
        }
        fold
    }

    fn lane_at(&self, lane: &Lane, at: i64) -> LaneFold {
        let status = self.retirements(&lane.environment).at(time(at));
        self.fold(lane, at).without_discarded_changes(status).into_owned()
    }

    fn present(&self, lane: &Lane) -> LaneFold {
        let status = self.retirements(&lane.environment).last();
        self.fold(lane, LAST_SECOND).without_discarded_changes(status).into_owned()
    }

    fn is_live(&self, lane: &Lane, release: &Release, at: i64) -> bool {
        self.lane_at(lane, at).live().is_some_and(|live| live.release.is_same(release))
    }

    fn track_spans(&self, lane: &Lane, release: &Release) -> Vec<Vec<Span>> {
        let on = |slot: Option<SlotName>| {
            spans_where(LAST_SECOND, |at| {
                let fold = self.lane_at(lane, at);
                let live = fold.live();
                if slot.is_none() {
                    return live.is_some_and(|live| live.release.is_same(release));
                }
                let mut held = fold.idle().into_iter().chain(live);
                held.any(|held| held.slot == slot.as_ref() && held.release.is_same(release))
            })
        };
        let slots = self.changes.iter().filter_map(|change| match &change.track {
            Track::Traffic => None,
            Track::Slot(slot) => Some(slot.clone()),
        });
        let slots: BTreeSet<SlotName> = slots.collect();
        std::iter::once(None).chain(slots.into_iter().map(Some)).map(on).collect()
    }

    fn composition_at(&self, environment: &EnvironmentName, at: i64) -> CompositionId {
        let mut index = CompositionIndex::default();
        for lane in self.lanes(environment) {
            let fold = self.lane_at(&lane, at);
            index.set(&lane.service, &lane.target, fold.live().map(|live| live.release));
        }
        index.id()
    }

    fn present_composition(&self, environment: &EnvironmentName) -> CompositionId {
        let mut index = CompositionIndex::default();
        for lane in self.lanes(environment) {
            let fold = self.present(&lane);
            index.set(&lane.service, &lane.target, fold.live().map(|live| live.release));
        }
        index.id()
    }

    fn deploys(&self, lane: &Lane) -> Vec<(&Change, &Release)> {
        let changes = self.changes.iter().filter(|change| change.lane == *lane);
        let deploys = changes.filter_map(|change| match &change.entry.effect {
            Effect::Deployed(release) => Some((change, release)),
            _ => None,
        });
        deploys.collect()
    }

    /// Returns the uncorrected ends of checks, without passes that their counts contradict.
    fn effective_ends(&self) -> Vec<(usize, &Validation, bool)> {
        let effective = self.entries.iter().enumerate().filter(|(index, _)| !self.corrected.contains(index));
        let ends = effective.filter_map(|(index, (_, event))| match &event.payload {
            Payload::ValidationPassed(it) if it.counts.is_some_and(|counts| counts.contradict_a_pass()) => {
                None
            }
            Payload::ValidationPassed(it) => Some((index, it, true)),
            Payload::ValidationFailed(it) => Some((index, it, false)),
            _ => None,
        });
        ends.collect()
    }

    fn second(&self, index: usize) -> i64 {
        self.entries[index].0.occurred_at.timestamp()
    }

    fn start_of(&self, end: usize, validation: &Validation) -> Option<i64> {
        let event_time = self.entries[end].0;
        let effective = self.entries.iter().enumerate().filter(|(index, _)| !self.corrected.contains(index));
        let before = effective.filter(|(index, (at, _))| *at < event_time && *index != end);
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (_, (at, event)) in before {
            match &event.payload {
                Payload::ValidationStarted(it) if it.check == validation.check => {
                    let is_it = match &validation.run {
                        Some(run) => it.run.as_ref() == Some(run),
                        None => it.run.is_none() && subject(it) == subject(validation),
                    };
                    starts.extend(is_it.then_some(*at));
                }
                Payload::ValidationPassed(it) | Payload::ValidationFailed(it)
                    if it.check == validation.check && subject(it) == subject(validation) =>
                {
                    ends.push(*at);
                }
                _ => {}
            }
        }
        let start = starts.into_iter().max()?;
        let interrupted = validation.run.is_none() && ends.iter().any(|end| *end > start);
        (!interrupted).then(|| start.occurred_at.timestamp())
    }

    /// Returns true if the end of a check applies to a release in a lane and does not straddle a change.
    fn applies_to(&self, (end, validation): (usize, &Validation), lane: &Lane, release: &Release) -> bool {
        let (at, start) = (self.second(end), self.start_of(end, validation));
        let does_not_straddle =
            || start.is_none_or(|start| !straddles(time(start), time(at), &self.track_spans(lane, release)));
        match &validation.subject {
            ValidationSubject::Environment(_) => false,
            ValidationSubject::Artifact(artifact) => {
                self.artifact_in(lane, release).is_some_and(|own| own.is_same(artifact))
            }
            ValidationSubject::Lane { lane: named, .. } if !named.covers(lane) => false,
            ValidationSubject::Lane { release: Some(stated), .. } => {
                let deploys = self.deploys(lane).into_iter().map(|(change, release)| {
                    let EventRef { occurred_at, position, .. } = change.entry.since;
                    let artifact = self.artifact_deployed(lane, release, occurred_at);
                    LaneDeploy { occurred_at, position, release: release.completed(artifact) }
                });
                let deploys: Vec<_> = deploys.collect();
                let built = self.built_artifact(&lane.service, &stated.version, end_of(at));
                let artifact = self.artifact_in(lane, release);
                let applies =
                    speaks_of(stated, time(at), &deploys, built.as_ref(), (release, artifact.as_ref()));
                applies && does_not_straddle()
            }
            ValidationSubject::Lane { deployment: Some(name), .. } => {
                let deploys = self.deploys(lane);
                let mut of_name =
                    deploys.iter().filter(|(change, _)| change.deployment.as_ref() == Some(name));
                of_name.any(|(_, deployed)| deployed.is_same(release)) && does_not_straddle()
            }
            ValidationSubject::Lane { .. } => {
                (start.unwrap_or(at)..=at).all(|second| self.is_live(lane, release, second))
            }
        }
    }

    fn result(&self, end: usize, passed: bool) -> CheckResult {
        let EventTime { occurred_at, position } = self.entries[end].0;
        CheckResult { passed, occurred_at, position }
    }

    /// Returns the ends of checks of an environment that do not straddle a change, each with the checked composition.
    fn composition_ends(
        &self,
        environment: &EnvironmentName,
    ) -> Vec<(CompositionId, usize, &Validation, bool)> {
        let of_environment = self.effective_ends().into_iter().filter(
            |(_, it, _)| matches!(&it.subject, ValidationSubject::Environment(name) if name == environment),
        );
        let ends = of_environment.filter_map(|(end, it, passed)| {
            let at = self.second(end);
            let id = self.composition_at(environment, at);
            let start = self.start_of(end, it).unwrap_or(at);
            let is_unchanged = (start..=at).all(|second| self.composition_at(environment, second) == id);
            is_unchanged.then_some((id, end, it, passed))
        });
        ends.collect()
    }

    /// Returns the unrevoked marks: composition, marked position and mark.
    fn marks(&self, environment: &EnvironmentName, entries: &[Entry]) -> Vec<(CompositionId, usize, Marked)> {
        let mut marks: Vec<(CompositionId, usize, Marked)> = Vec::new();
        let composition = |point: usize| Self::new(&entries[..point]).present_composition(environment);
        for (EventTime { occurred_at: at, position }, event) in &self.entries {
            match &event.payload {
                Payload::ReleasePointMarked(mark) if mark.point.environment == *environment => {
                    let point = mark.point.position.get() as usize;
                    let marked = Marked {
                        position: *position,
                        occurred_at: *at,
                        status: mark.status,
                        name: mark.name.clone(),
                        actor: event.actor.clone(),
                        reason: event.reason.clone(),
                    };
                    marks.push((composition(point), point, marked));
                }
                Payload::ReleasePointRevoked(point) if point.environment == *environment => {
                    let id = composition(point.position.get() as usize);
                    marks.retain(|(of, ..)| *of != id);
                }
                _ => {}
            }
        }
        marks
    }

    fn policy(&self, environment: &EnvironmentName) -> Policy {
        let declared = self.entries.iter().rev().find_map(|(_, event)| match &event.payload {
            Payload::EnvironmentDeclared(name, policy) if name == environment => Some(policy.clone()),
            _ => None,
        });
        declared.unwrap_or_default()
    }

    /// Returns the releases that were deployed to a lane and count as the requested one, each with the position of its
    /// last deploy.
    fn deployed_as_requested(&self, lane: &Lane, requested: &Release) -> Vec<(Release, Position)> {
        let mut releases: Vec<(Release, Position)> = Vec::new();
        for (change, release) in self.deploys(lane) {
            releases.retain(|(other, _)| other != release);
            let artifact = self.artifact_in(lane, release);
            if counts(requested, release, artifact.as_ref()) {
                releases.push((release.clone(), change.entry.since.position));
            }
        }
        releases
    }

    /// Returns the results of checks for a release in a lane.
    fn results(&self, lane: &Lane, release: &Release) -> CheckResults {
        let mut results = CheckResults::default();
        for (end, it, passed) in self.effective_ends() {
            if self.applies_to((end, it), lane, release) {
                results.add(it.check.clone(), self.result(end, passed));
            }
        }
        results
    }

    /// Returns the evidence about the compositions that contained a release in a lane and have results or marks.
    fn compositions_with(
        &self,
        lane: &Lane,
        release: &Release,
        entries: &[Entry],
    ) -> Vec<CompositionEvidence> {
        let composition_ends = self.composition_ends(&lane.environment);
        let marks = self.marks(&lane.environment, entries);
        let checked = composition_ends
            .iter()
            .filter(|(_, end, ..)| self.is_live(lane, release, self.second(*end)))
            .map(|(id, ..)| *id);
        let mut ids: BTreeSet<CompositionId> = checked.collect();
        let last_mark_on = |id: &CompositionId| marks.iter().rfind(|(of, ..)| of == id);
        for (id, ..) in &marks {
            let point = last_mark_on(id).map_or(0, |(_, point, _)| *point);
            let present = Self::new(&entries[..point]).present(lane);
            if present.live().is_some_and(|live| live.release.is_same(release)) {
                ids.insert(*id);
            }
        }
        let evidence = ids.into_iter().map(|id| {
            let mut results = CheckResults::default();
            for (_, end, it, passed) in composition_ends.iter().filter(|(of, ..)| *of == id) {
                results.add(it.check.clone(), self.result(*end, *passed));
            }
            let marked = last_mark_on(&id).map(|(_, _, marked)| marked.clone());
            CompositionEvidence { results, marked }
        });
        evidence.collect()
    }

    fn evidence(
        &self,
        environment: &EnvironmentName,
        (service, requested, now): (&ServiceName, &Release, i64),
        entries: &[Entry],
    ) -> Vec<TargetEvidence> {
        let mut all = Vec::new();
        for lane in self.lanes(environment).into_iter().filter(|lane| lane.service == *service) {
            for (release, deployed) in self.deployed_as_requested(&lane, requested) {
                let spans = spans_where(LAST_SECOND, |at| self.is_live(&lane, &release, at));
                let Some(longest_run) = longest(&spans, time(now)) else { continue };
                all.push(TargetEvidence {
                    target: lane.target.clone(),
                    deployed,
                    results: self.results(&lane, &release),
                    compositions: self.compositions_with(&lane, &release, entries),
                    longest_run,
                });
            }
        }
        best_at_each_target(&self.policy(environment), &all)
    }

    fn freezes(&self, now: i64) -> Vec<ActiveFreeze> {
        let mut freezes: Vec<RecordedFreeze> = Vec::new();
        for (EventTime { occurred_at: at, position }, event) in &self.entries {
            match &event.payload {
                Payload::FreezeStarted(it) => freezes.push(RecordedFreeze {
                    freeze_id: it.freeze_id.clone(),
                    position: *position,
                    period: FreezePeriod { started_at: *at, until: it.until, lifted_at: None },
                }),
                Payload::FreezeLifted(it) => {
                    for freeze in freezes.iter_mut().filter(|freeze| freeze.freeze_id == it.freeze_id) {
                        freeze.period.lifted_at.get_or_insert(*at);
                    }
                }
                _ => {}
            }
        }
        freezes.iter().filter_map(|it| it.active_at(time(now))).collect()
    }

    /// Returns the rollbacks of a lane, and the rollback under way.
    fn rollbacks(&self, lane: &Lane) -> (Vec<RolledBackRelease>, Option<(ShortText, Position)>) {
        let mut all: Vec<(ShortText, Position, RollbackPhase)> = Vec::new();
        let mut left: Vec<RolledBackRelease> = Vec::new();
        for (EventTime { position, .. }, event) in &self.entries {
            let (id, phase) = match &event.payload {
                Payload::RollbackRequested(request) => {
                    let rollback_id = &request.rollback.rollback_id;
                    if all.iter().any(|(id, ..)| id == rollback_id) {
                        continue;
                    }
                    all.push((rollback_id.clone(), *position, RollbackPhase::Requested));
                    let steps = request.plan.steps.iter();
                    let of_lane =
                        steps.filter(|it| (&it.service, &it.target) == (&lane.service, &lane.target));
                    left.extend(of_lane.map(|step| RolledBackRelease {
                        rollback_id: rollback_id.clone(),
                        requested: *position,
                        started: false,
                        cancelled: false,
                        ended: None,
                        by_person: request.initiated_by.is_person(),
                        from: step.from.clone(),
                        to: step.to.clone(),
                    }));
                    continue;
                }
                Payload::RollbackStarted(it) => (&it.rollback.rollback_id, RollbackPhase::Started),
                Payload::RollbackSucceeded(it) => (&it.rollback_id, RollbackPhase::Succeeded),
                Payload::RollbackCancelled(it) => (&it.rollback_id, RollbackPhase::Cancelled),
                _ => continue,
            };
            let Some(rollback) = all.iter_mut().find(|(of, ..)| of == id) else { continue };
            let is_next = match phase {
                RollbackPhase::Started => rollback.2 == RollbackPhase::Requested,
                _ => rollback.2.is_active(),
            };
            if is_next {
                rollback.2 = phase;
                for left in left.iter_mut().filter(|left| left.rollback_id == *id) {
                    left.started |= phase == RollbackPhase::Started;
                    left.cancelled |= phase == RollbackPhase::Cancelled;
                    left.ended = left.ended.or((!phase.is_active()).then_some(*position));
                }
            }
        }
        let active = all.into_iter().rfind(|(.., phase)| phase.is_active());
        (left, active.map(|(id, position, _)| (id, position)))
    }

    /// Returns the votes on deploys. One without an artifact has that which its version meant when it was recorded; if
    /// none, that of its moment by all entries.
    fn votes(&self, entries: &[Entry]) -> Vec<DeployVote> {
        let mut votes = Vec::new();
        for (EventTime { occurred_at: at, position }, event) in &self.entries {
            let (approval, granted) = match &event.payload {
                Payload::ApprovalGranted(approval) => (approval, true),
                Payload::ApprovalRejected(approval) => (approval, false),
                _ => continue,
            };
            if let (ApprovalSubject::Deploy { lane, release }, Some(actor)) =
                (&approval.subject, &event.actor)
            {
                let then = Self::new(&entries[..position.get() as usize]);
                let moment = EventTime::new(*at, *position);
                let release = then.completed(lane, release, moment);
                votes.push(DeployVote {
                    vote: ApprovalVote { actor: actor.clone(), granted, position: *position },
                    occurred_at: *at,
                    lane: lane.clone(),
                    release: self.completed(lane, &release, moment),
                    expires_at: approval.expires_at,
                });
            }
        }
        votes
    }

    /// Returns all revocations, with those that a later reinstatement cancels.
    fn revocations(&self) -> Vec<(EventTime, &Revoked)> {
        let revocations = self.entries.iter().filter_map(|(event_time, event)| match &event.payload {
            Payload::ArtifactRevoked(revoked) => Some((*event_time, revoked)),
            _ => None,
        });
        revocations.collect()
    }

    fn is_reinstated_after(&self, artifact: &Artifact, moment: EventTime) -> bool {
        self.entries.iter().any(|(event_time, event)| match &event.payload {
            Payload::ArtifactReinstated(it) => *event_time > moment && it.artifact.is_same(artifact),
            _ => false,
        })
    }

    /// Returns the first revocation of an artifact that no later reinstatement cancels. The artifact counts as deleted
    /// if one of these revocations says so.
    fn revocation_of(&self, artifact: &Artifact) -> Option<RevokedArtifact> {
        let mut in_force = self.revocations();
        in_force.retain(|(moment, revoked)| {
            revoked.artifact.is_same(artifact) && !self.is_reinstated_after(artifact, *moment)
        });
        let (moment, first) = in_force.iter().min_by_key(|(moment, _)| *moment)?;
        Some(RevokedArtifact {
            artifact: first.artifact.clone(),
            deleted: in_force.iter().any(|(_, revoked)| revoked.deleted),
            position: moment.position,
        })
    }

    /// Returns the revocations in force of artifacts named like a service, ordered by position. Each has the spelling
    /// of the first revocation with the name.
    fn revocations_named_like(&self, service: &ServiceName) -> Vec<RevokedArtifact> {
        let mut named = self.revocations();
        named.retain(|(_, revoked)| revoked.artifact.name().is_some_and(|name| name == service.as_str()));
        let mut found = Vec::new();
        for (moment, revoked) in &named {
            let artifact = &revoked.artifact;
            if named.iter().any(|(other, earlier)| other < moment && earlier.artifact.is_same(artifact)) {
                continue;
            }
            if let Some(in_force) = self.revocation_of(artifact) {
                found.push(RevokedArtifact { artifact: artifact.clone(), ..in_force });
            }
        }
        found.sort_by_key(|revoked| revoked.position);
        found
    }
}

/// Returns the subject of a check as stated, reduced to the version for a release.
fn subject(validation: &Validation) -> ValidationSubject {
    match &validation.subject {
        ValidationSubject::Lane { lane, release: Some(release), .. } => ValidationSubject::Lane {
            lane: lane.clone(),
            release: Some(Release::of_version(release.version.clone())),
            deployment: None,
        },
        other => other.clone(),
    }
}

/// Returns the gate's decision about the last event of a history; `None` if it is not a deploy to production that is
/// tested.
pub(super) fn decision(policy: &Policy, entries: &[Entry]) -> Option<Decision> {
    let (last, before) = entries.split_last()?;
    let event = last.event();
    let Payload::DeploySucceeded(deploy) = &event.payload else { return None };
    if deploy.lane.environment != name("production") || deploy.rollback_id.is_some() {
        return None;
    }
    // Keeps the correction that the deploy makes, but removes the deploy itself, which is not known yet.
    let mut model = Model::new(entries);
    let position = Position::new(entries.len() as u64);
    let target = match model.changes.iter().find(|change| change.entry.since.position == position) {
        Some(change) => change.lane.target.clone(),
        None => return None,
    };
    model.changes.retain(|change| change.entry.since.position != position);
    model.entries.pop();
    let lane = deploy.lane.at(target);
    let named = LaneRef::from(lane.clone());
    let release = model.completed(&named, &deploy.release, end_of(last.at));
    let promotion = policy.promotion.iter().flat_map(|promotion| &promotion.from);
    let policies: Vec<_> = promotion.map(|from| (from, model.policy(from))).collect();
    let evidence = policies.iter().map(|(environment, policy)| PromotionEvidence {
        environment,
        policy,
        targets: model.evidence(environment, (&lane.service, &release, last.at), before),
    });
    let evidence: Vec<_> = evidence.collect();
    let standing = model.retirements(&lane.environment).at(time(last.at));
    let fold = model.fold(&lane, LAST_SECOND);
    let present = fold.without_discarded_changes(standing);
    let freezes = model.freezes(last.at);
    let (rollbacks, active) = model.rollbacks(&lane);
    let deploys = model.deploys(&lane).into_iter().map(|(change, release)| SucceededDeploy {
        position: change.entry.since.position,
        occurred_at: change.entry.since.occurred_at,
        late: change.late,
        rollback_id: change.rollback_id.clone(),
        release: release.clone(),
    });
    let deploys: Vec<_> = deploys.collect();
    let revoked: Vec<RevokedArtifact> = match &release.artifact {
        Some(artifact) => model.revocation_of(artifact).into_iter().collect(),
        None => model.revocations_named_like(&lane.service),
    };
    let input = GateInput {
        lane: &lane,
        release: &release,
        requester: event.actor.as_ref(),
        now: time(last.at),
        policy,
        retired: standing.retired_by(),
        freezes: &freezes,
        rollback: active.as_ref().map(|(id, position)| (id, *position)),
        revocations: Revocations { revoked: &revoked, version_artifacts: None },
        rollbacks: &rollbacks,
        deploys: &deploys,
        present: Some(&present),
        promotion: &evidence,
        votes: &model.votes(entries),
    };
    Some(decide(&[input]))
}
