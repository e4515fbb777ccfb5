//! The gate's input at the last deploy of a history, built from all events in the plainest way: no state is kept, and times are
//! tried second by second.

use std::collections::BTreeSet;

use super::{Entry, name, time};
use crate::checks::{LaneDeploy, speaks_of, straddles};
use crate::event::{ApprovalSubject, Event, Payload, Policy, Validation, ValidationSubject};
use crate::gate::{
    Answer, CompositionEvidence, Decision, DeployAnswer, GateInput, LeftRelease, PromotionEvidence,
    SucceededDeploy, TargetEvidence, decide, judge_release,
};
use crate::known_good::{CheckResult, CheckResults, Marked, Status};
use crate::plan_issue::{ActiveFreeze, FreezeInterval, Revocations, RevokedArtifact};
use crate::retirement::{Retirements, Standing};
use crate::rollback::Phase;
use crate::span::Span;
use crate::{
    Artifact, CompositionId, CompositionIndex, Effect, EnvironmentName, EventId, Lane, LaneFold, LaneRef,
    Position, Release, ServiceName, ShortText, Since, SlotName, TargetName, Track, TrackEntry,
};

/// No event of a history occurs later.
pub(super) const LAST_SECOND: i64 = 60;

type At = (chrono::DateTime<chrono::Utc>, Position);

/// A change of a lane that has effect.
struct Change {
    lane: Lane,
    track: Track,
    written: TrackEntry,
    deployment: Option<ShortText>,
    rollback_id: Option<ShortText>,
    late: bool,
}

/// All that is known after some events.
struct Model {
    entries: Vec<(At, Event)>,
    /// Indexes of events without effect.
    corrected: BTreeSet<usize>,
    changes: Vec<Change>,
}

impl Model {
    /// `entries` are at positions 1, 2, 3 …
    fn of(entries: &[Entry]) -> Self {
        let mut model = Self { entries: Vec::new(), corrected: BTreeSet::new(), changes: Vec::new() };
        let mut by: Vec<Option<usize>> = vec![None; entries.len()];
        for (index, (entry, position)) in entries.iter().zip(1..).enumerate() {
            let (event, at) = (entry.event(), (time(entry.at), Position::new(position)));
            let corrects = entry.corrects.map(|position| position as usize - 1);
            let corrects = corrects.filter(|of| *of < index && event.payload.is_correctable());
            if let Some(mut of) = corrects.filter(|of| model.entries[*of].1.payload.is_correctable()) {
                while let Some(next) = by[of] {
                    of = next;
                }
                by[of] = Some(index);
                model.corrected.insert(of);
                let position = model.entries[of].0.1;
                model.changes.retain(|change| change.written.since.position != position);
            }
            model.change(&event, at);
            model.entries.push((at, event));
        }
        model
    }

    fn change(&mut self, event: &Event, at: At) {
        let Some((named, track, effect)) = event.payload.change() else { return };
        let Some(target) = self.target(named) else { return };
        let lane = named.at(target);
        let id = EventId::parse(&at.1.to_string()).expect("an id");
        let written = TrackEntry { effect, since: Since { occurred_at: at.0, position: at.1, event_id: id } };
        let late = self.changes.iter().any(|other| {
            other.lane == lane && (other.written.since.occurred_at, other.written.since.position) > at
        });
        let (deployment, rollback_id) =
            (event.payload.deployment().cloned(), event.payload.rollback_id().cloned());
        self.changes.push(Change { lane, track, written, deployment, rollback_id, late });
    }

    fn target(&self, named: &LaneRef) -> Option<TargetName> {
        if named.target.is_some() {
            return named.target.clone();
        }
        let lanes = self.lanes(&named.environment);
        let lanes: Vec<_> = lanes.into_iter().filter(|lane| lane.service == named.service).collect();
        let holding: Vec<_> = lanes.iter().filter(|lane| self.present(lane).holds_anything()).collect();
        let targets: Vec<_> = if holding.is_empty() { lanes.iter().collect() } else { holding };
        match targets[..] {
            [] => Some(TargetName::default()),
            [lane] => Some(lane.target.clone()),
            _ => None,
        }
    }

    fn lanes(&self, environment: &EnvironmentName) -> BTreeSet<Lane> {
        let lanes = self.changes.iter().map(|change| &change.lane);
        lanes.filter(|lane| lane.environment == *environment).cloned().collect()
    }

    fn retirements(&self, environment: &EnvironmentName) -> Retirements {
        let mut retirements = Retirements::default();
        for ((at, position), event) in &self.entries {
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
        for change in changes.filter(|change| change.written.since.occurred_at <= time(until)) {
            fold.insert(change.track.clone(), change.written.clone());
        }
        fold
    }

    fn in_force(fold: &LaneFold, standing: Standing) -> LaneFold {
        match standing {
            Standing::Retired(_) => LaneFold::default(),
            Standing::Open(None) => fold.clone(),
            Standing::Open(Some(until)) => fold.after(until),
        }
    }

    fn state(&self, lane: &Lane, at: i64) -> LaneFold {
        Self::in_force(&self.fold(lane, at), self.retirements(&lane.environment).at(time(at)))
    }

    fn present(&self, lane: &Lane) -> LaneFold {
        Self::in_force(&self.fold(lane, LAST_SECOND), self.retirements(&lane.environment).last())
    }

    /// The spans of the seconds in which something was so. What is so in the last second stays so.
    fn spans(is_so: impl Fn(i64) -> bool) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut from = None;
        for second in 0..=LAST_SECOND {
            match (from, is_so(second)) {
                (None, true) => from = Some(second),
                (Some(since), false) => {
                    spans.push(Span { from: time(since), until: time(second) });
                    from = None;
                }
                _ => {}
            }
        }
        let until = chrono::DateTime::<chrono::Utc>::MAX_UTC;
        spans.extend(from.map(|since| Span { from: time(since), until }));
        spans
    }

    fn runs(&self, lane: &Lane, release: &Release, at: i64) -> bool {
        self.state(lane, at).live().is_some_and(|live| live.release == release)
    }

    fn tracks(&self, lane: &Lane, release: &Release) -> Vec<Vec<Span>> {
        let on = |slot: Option<SlotName>| {
            Self::spans(|at| {
                let fold = self.state(lane, at);
                let (live, idle) = (fold.live(), fold.idle());
                let held = if slot.is_none() { Vec::new() } else { idle };
                let mut held = held.into_iter().chain(live);
                held.any(|held| held.slot == slot.as_ref() && held.release == release)
            })
        };
        let slots = self.changes.iter().filter_map(|change| match &change.track {
            Track::Traffic => None,
            Track::Slot(slot) => Some(slot.clone()),
        });
        let slots: BTreeSet<SlotName> = slots.collect();
        std::iter::once(None).chain(slots.into_iter().map(Some)).map(on).collect()
    }

    fn composition(&self, environment: &EnvironmentName, at: i64) -> CompositionId {
        let mut index = CompositionIndex::default();
        for lane in self.lanes(environment) {
            let fold = self.state(&lane, at);
            index.set(&lane.service, &lane.target, fold.live().map(|live| live.release));
        }
        index.id()
    }

    fn recorded(&self, environment: &EnvironmentName) -> CompositionId {
        let mut index = CompositionIndex::default();
        for lane in self.lanes(environment) {
            let fold = self.present(&lane);
            index.set(&lane.service, &lane.target, fold.live().map(|live| live.release));
        }
        index.id()
    }

    fn deploys(&self, lane: &Lane) -> Vec<(&Change, &Release)> {
        let changes = self.changes.iter().filter(|change| change.lane == *lane);
        let deploys = changes.filter_map(|change| match &change.written.effect {
            Effect::Deployed(release) => Some((change, release)),
            _ => None,
        });
        deploys.collect()
    }

    fn built(&self, service: &ServiceName, version: &ShortText, at: i64) -> Option<Artifact> {
        let mut builds: Vec<(At, &Artifact)> = Vec::new();
        for (moment, event) in &self.entries {
            match &event.payload {
                Payload::ArtifactBuilt(built)
                    if built.version.as_ref() == Some(version) && moment.0 <= time(at) =>
                {
                    builds.push((*moment, &built.artifact));
                }
                _ => {}
            }
        }
        let is_named = |artifact: &Artifact| artifact.name().as_deref() == Some(service.as_str());
        let names: BTreeSet<_> = builds.iter().map(|(_, artifact)| artifact.name()).collect();
        let mut meant = builds.clone();
        if builds.iter().any(|(_, artifact)| is_named(artifact)) {
            meant.retain(|(_, artifact)| is_named(artifact));
        } else if names.len() != 1 {
            return None;
        }
        meant.into_iter().max_by_key(|(moment, _)| *moment).map(|(_, artifact)| artifact.clone())
    }

    fn meant(&self, lane: &LaneRef, version: &ShortText, at: i64) -> Option<Artifact> {
        let stating = |here: bool| {
            let deploys = self.changes.iter().filter(|change| {
                change.lane.service == lane.service
                    && (change.lane.environment == lane.environment || !here)
                    && change.written.since.occurred_at <= time(at)
            });
            let deploys = deploys.filter_map(|change| match &change.written.effect {
                Effect::Deployed(release) if release.version == *version => {
                    let since = &change.written.since;
                    release.artifact.clone().map(|artifact| ((since.occurred_at, since.position), artifact))
                }
                _ => None,
            });
            deploys.max_by_key(|(moment, _)| *moment).map(|(_, artifact)| artifact)
        };
        stating(true).or_else(|| stating(false)).or_else(|| self.built(&lane.service, version, at))
    }

    fn completed(&self, lane: &LaneRef, release: &Release, at: i64) -> Release {
        release.completed(self.meant(lane, &release.version, at))
    }

    /// The ends of checks that have effect, and whose counts do not contradict them.
    fn ends(&self) -> Vec<(usize, &Validation, bool)> {
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
        self.entries[index].0.0.timestamp()
    }

    fn start(&self, end: usize, validation: &Validation) -> Option<i64> {
        let moment = self.entries[end].0;
        let effective = self.entries.iter().enumerate().filter(|(index, _)| !self.corrected.contains(index));
        let before = effective.filter(|(index, (at, _))| *at < moment && *index != end);
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
        (!interrupted).then(|| start.0.timestamp())
    }

    /// Whether the end of a check speaks of a release in a lane, and is not void.
    fn is_about(&self, (end, validation): (usize, &Validation), lane: &Lane, release: &Release) -> bool {
        let (at, start) = (self.second(end), self.start(end, validation));
        let stays =
            || start.is_none_or(|start| !straddles(time(start), time(at), &self.tracks(lane, release)));
        match &validation.subject {
            ValidationSubject::Environment(_) => false,
            ValidationSubject::Artifact(artifact) => {
                release.artifact.as_ref().is_some_and(|own| own.is_same(artifact))
            }
            ValidationSubject::Lane { lane: named, .. } if !named.covers(lane) => false,
            ValidationSubject::Lane { release: Some(stated), .. } => {
                let deploys = self.deploys(lane).into_iter().map(|(change, release)| LaneDeploy {
                    occurred_at: change.written.since.occurred_at,
                    position: change.written.since.position,
                    release: release.clone(),
                });
                let deploys: Vec<_> = deploys.collect();
                let built = self.built(&lane.service, &stated.version, at);
                speaks_of(stated, time(at), &deploys, built.as_ref(), release) && stays()
            }
            ValidationSubject::Lane { deployment: Some(name), .. } => {
                let deploys = self.deploys(lane);
                let mut of_name =
                    deploys.iter().filter(|(change, _)| change.deployment.as_ref() == Some(name));
                of_name.any(|(_, deployed)| *deployed == release) && stays()
            }
            ValidationSubject::Lane { .. } => {
                (start.unwrap_or(at)..=at).all(|second| self.runs(lane, release, second))
            }
        }
    }

    fn verdict(&self, end: usize, passed: bool) -> CheckResult {
        let (occurred_at, position) = self.entries[end].0;
        CheckResult { passed, occurred_at, position }
    }

    /// The ends of checks of an environment that are not void, each with the composition that it speaks of.
    fn of_compositions(
        &self,
        environment: &EnvironmentName,
    ) -> Vec<(CompositionId, usize, &Validation, bool)> {
        let of_environment = self.ends().into_iter().filter(
            |(_, it, _)| matches!(&it.subject, ValidationSubject::Environment(name) if name == environment),
        );
        let ends = of_environment.filter_map(|(end, it, passed)| {
            let at = self.second(end);
            let id = self.composition(environment, at);
            let start = self.start(end, it).unwrap_or(at);
            let stays = (start..=at).all(|second| self.composition(environment, second) == id);
            stays.then_some((id, end, it, passed))
        });
        ends.collect()
    }

    /// The marks that are not revoked: the composition, the marked position, the mark.
    fn marks(&self, environment: &EnvironmentName, entries: &[Entry]) -> Vec<(CompositionId, usize, Marked)> {
        let mut marks: Vec<(CompositionId, usize, Marked)> = Vec::new();
        let recorded = |point: usize| Self::of(&entries[..point]).recorded(environment);
        for ((at, position), event) in &self.entries {
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
                    marks.push((recorded(point), point, marked));
                }
                Payload::ReleasePointRevoked(point) if point.environment == *environment => {
                    let id = recorded(point.position.get() as usize);
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

    fn evidence(
        &self,
        environment: &EnvironmentName,
        (service, asked, now): (&ServiceName, &Release, i64),
        entries: &[Entry],
    ) -> Vec<TargetEvidence> {
        let of_compositions = self.of_compositions(environment);
        let marks = self.marks(environment, entries);
        let policy = self.policy(environment);
        let mut all = Vec::new();
        for lane in self.lanes(environment).into_iter().filter(|lane| lane.service == *service) {
            let named = LaneRef::from(lane.clone());
            let is_asked = |release: &Release| match &asked.artifact {
                None => release.version == asked.version,
                Some(artifact) => match &release.artifact {
                    Some(own) => own.is_same(artifact),
                    None => {
                        let meant = self.meant(&named, &release.version, now);
                        release.version == asked.version && meant.is_none_or(|own| own.is_same(artifact))
                    }
                },
            };
            let mut releases: Vec<(Release, Position)> = Vec::new();
            for (change, release) in self.deploys(&lane) {
                releases.retain(|(other, _)| other != release);
                if is_asked(release) {
                    releases.push((release.clone(), change.written.since.position));
                }
            }
            let mut of_releases = Vec::new();
            for (release, deployed) in releases {
                let spans = Self::spans(|at| self.runs(&lane, &release, at));
                let Some(longest_run) = spans.iter().map(|span| span.until.min(time(now)) - span.from).max()
                else {
                    continue;
                };
                let mut results = CheckResults::default();
                for (end, it, passed) in self.ends() {
                    if self.is_about((end, it), &lane, &release) {
                        results.add(it.check.clone(), self.verdict(end, passed));
                    }
                }
                let mut ids = BTreeSet::new();
                for (id, end, ..) in &of_compositions {
                    if self.runs(&lane, &release, self.second(*end)) {
                        ids.insert(*id);
                    }
                }
                let last_on = |id: &CompositionId| marks.iter().rfind(|(of, ..)| of == id);
                for (id, ..) in &marks {
                    let point = last_on(id).map_or(0, |(_, point, _)| *point);
                    let present = Self::of(&entries[..point]).present(&lane);
                    if present.live().is_some_and(|live| *live.release == release) {
                        ids.insert(*id);
                    }
                }
                let mut compositions = Vec::new();
                for id in ids {
                    let mut results = CheckResults::default();
                    for (_, end, it, passed) in of_compositions.iter().filter(|(of, ..)| *of == id) {
                        results.add(it.check.clone(), self.verdict(*end, *passed));
                    }
                    let marked = last_on(&id).map(|(_, _, marked)| marked.clone());
                    compositions.push(CompositionEvidence { results, marked });
                }
                let target = lane.target.clone();
                let evidence = TargetEvidence { target, deployed, results, compositions, longest_run };
                let is_good = judge_release(&policy, &evidence).status == Status::KnownGood;
                of_releases.push(((is_good, deployed), evidence));
            }
            all.extend(of_releases.into_iter().max_by_key(|(rank, _)| *rank).map(|(_, evidence)| evidence));
        }
        all
    }

    fn freezes(&self, now: i64) -> Vec<ActiveFreeze> {
        let mut freezes: Vec<FreezeInterval> = Vec::new();
        for ((at, position), event) in &self.entries {
            match &event.payload {
                Payload::FreezeStarted(it) => freezes.push(FreezeInterval {
                    freeze: ActiveFreeze {
                        freeze_id: it.freeze_id.clone(),
                        until: it.until,
                        position: *position,
                    },
                    started_at: *at,
                    lifted_at: None,
                }),
                Payload::FreezeLifted(it) => {
                    for freeze in freezes.iter_mut().filter(|freeze| freeze.freeze.freeze_id == it.freeze_id)
                    {
                        freeze.lifted_at.get_or_insert(*at);
                    }
                }
                _ => {}
            }
        }
        freezes.into_iter().filter(|it| it.holds_at(time(now))).map(|it| it.freeze).collect()
    }

    /// The rollbacks of a lane, and the one that is under way.
    fn rollbacks(&self, lane: &Lane) -> (Vec<LeftRelease>, Option<(ShortText, Position)>) {
        let mut all: Vec<(ShortText, Position, Phase)> = Vec::new();
        let mut left: Vec<LeftRelease> = Vec::new();
        for ((_, position), event) in &self.entries {
            let (id, phase) = match &event.payload {
                Payload::RollbackRequested(request) => {
                    let rollback_id = &request.rollback.rollback_id;
                    if all.iter().any(|(id, ..)| id == rollback_id) {
                        continue;
                    }
                    all.push((rollback_id.clone(), *position, Phase::Requested));
                    let steps = request.plan.steps.iter();
                    let of_lane =
                        steps.filter(|it| (&it.service, &it.target) == (&lane.service, &lane.target));
                    left.extend(of_lane.map(|step| LeftRelease {
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
                Payload::RollbackStarted(it) => (&it.rollback.rollback_id, Phase::Started),
                Payload::RollbackSucceeded(it) => (&it.rollback_id, Phase::Succeeded),
                Payload::RollbackCancelled(it) => (&it.rollback_id, Phase::Cancelled),
                _ => continue,
            };
            let Some(rollback) = all.iter_mut().find(|(of, ..)| of == id) else { continue };
            let is_next = match phase {
                Phase::Started => rollback.2 == Phase::Requested,
                _ => rollback.2.is_active(),
            };
            if is_next {
                rollback.2 = phase;
                for left in left.iter_mut().filter(|left| left.rollback_id == *id) {
                    left.started |= phase == Phase::Started;
                    left.cancelled |= phase == Phase::Cancelled;
                    left.ended = left.ended.or((!phase.is_active()).then_some(*position));
                }
            }
        }
        let active = all.into_iter().rfind(|(.., phase)| phase.is_active());
        (left, active.map(|(id, position, _)| (id, position)))
    }

    fn answers(&self) -> Vec<DeployAnswer> {
        let mut answers = Vec::new();
        for ((at, position), event) in &self.entries {
            let (approval, granted) = match &event.payload {
                Payload::ApprovalGranted(approval) => (approval, true),
                Payload::ApprovalRejected(approval) => (approval, false),
                _ => continue,
            };
            if let (ApprovalSubject::Deploy { lane, release }, Some(actor)) =
                (&approval.subject, &event.actor)
            {
                answers.push(DeployAnswer {
                    answer: Answer { actor: actor.clone(), granted, position: *position },
                    occurred_at: *at,
                    lane: lane.clone(),
                    release: self.completed(lane, release, at.timestamp()),
                    expires_at: approval.expires_at,
                });
            }
        }
        answers
    }

    /// Every artifact that was ever revoked.
    fn revoked_artifacts(&self) -> Vec<Artifact> {
        let revoked = self.entries.iter().filter_map(|(_, event)| match &event.payload {
            Payload::ArtifactRevoked(it) => Some(it.artifact.clone()),
            _ => None,
        });
        revoked.collect()
    }

    fn revoked(&self, artifact: &Artifact) -> Option<RevokedArtifact> {
        let mut revoked: Option<RevokedArtifact> = None;
        let mut by_moment: Vec<_> = self.entries.iter().collect();
        by_moment.sort_by_key(|(moment, _)| *moment);
        for ((_, position), event) in by_moment {
            match &event.payload {
                Payload::ArtifactReinstated(it) if it.artifact.is_same(artifact) => revoked = None,
                Payload::ArtifactRevoked(it) if it.artifact.is_same(artifact) => {
                    let first = RevokedArtifact {
                        artifact: it.artifact.clone(),
                        deleted: false,
                        position: *position,
                    };
                    revoked.get_or_insert(first).deleted |= it.deleted;
                }
                _ => {}
            }
        }
        revoked
    }
}

/// What a check is of, as it states it: of a release the version counts.
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

/// The gate's decision for the last event of a history; `None` if it is no deploy to production that is judged.
pub(super) fn decision(policy: &Policy, entries: &[Entry]) -> Option<Decision> {
    let (last, before) = entries.split_last()?;
    let event = last.event();
    let Payload::DeploySucceeded(deploy) = &event.payload else { return None };
    if deploy.lane.environment != name("production") || deploy.rollback_id.is_some() {
        return None;
    }
    // What the deploy corrects has no effect any more; the deploy itself is not known yet.
    let mut model = Model::of(entries);
    let position = Position::new(entries.len() as u64);
    let target = match model.changes.iter().find(|change| change.written.since.position == position) {
        Some(change) => change.lane.target.clone(),
        None => return None,
    };
    model.changes.retain(|change| change.written.since.position != position);
    model.entries.pop();
    let lane = deploy.lane.at(target);
    let named = LaneRef::from(lane.clone());
    let release = model.completed(&named, &deploy.release, last.at);
    let promotion = policy.promotion.iter().flat_map(|promotion| &promotion.from);
    let policies: Vec<_> = promotion.map(|from| (from, model.policy(from))).collect();
    let evidence = policies.iter().map(|(environment, policy)| PromotionEvidence {
        environment,
        policy,
        targets: model.evidence(environment, (&lane.service, &release, last.at), before),
    });
    let evidence: Vec<_> = evidence.collect();
    let standing = model.retirements(&lane.environment).at(time(last.at));
    let retired = match standing {
        Standing::Retired(position) => Some(position),
        Standing::Open(_) => None,
    };
    let present = Model::in_force(&model.fold(&lane, LAST_SECOND), standing);
    let freezes = model.freezes(last.at);
    let (rollbacks, active) = model.rollbacks(&lane);
    let deploys = model.deploys(&lane).into_iter().map(|(change, release)| SucceededDeploy {
        position: change.written.since.position,
        occurred_at: change.written.since.occurred_at,
        late: change.late,
        rollback_id: change.rollback_id.clone(),
        release: release.clone(),
    });
    let deploys: Vec<_> = deploys.collect();
    let revoked: Vec<RevokedArtifact> = match &release.artifact {
        Some(artifact) => model.revoked(artifact).into_iter().collect(),
        None => model.revoked_artifacts().iter().filter_map(|artifact| model.revoked(artifact)).collect(),
    };
    let input = GateInput {
        lane: &lane,
        release: &release,
        requester: event.actor.as_ref(),
        now: time(last.at),
        policy,
        retired,
        freezes: &freezes,
        rollback: active.as_ref().map(|(id, position)| (id, *position)),
        revocations: Revocations { revoked: &revoked, meant: None },
        rollbacks: &rollbacks,
        deploys: &deploys,
        present: Some(&present),
        promotion: &evidence,
        answers: &model.answers(),
    };
    Some(decide(&[input]))
}
