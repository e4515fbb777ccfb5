//! Back-tests: apply a candidate policy to the recorded history, and compare its decisions with the outcomes of the
//! deploys.
//!
//! The caller feeds the ledger's events in order. At each deploy, the gate's rules decide by the events before it,
//! which is what was known at that time. The outcome of a deploy is computed from all events. A version means an
//! artifact only by the events that were fed: deploys to environments that are not fed do not contribute.
//!
//! All events are kept in memory: about 400 bytes for each distinct release and for each change of a lane, 100 to 200
//! bytes for each start or end of a check, 200 bytes for each vote. A million events of 100 services, of which two
//! sevenths are deploys and three sevenths are checks, take about 400 MB.

mod artifacts;
mod environment;
mod history;
mod interned;
mod outcome;
mod results;
mod rules;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::event::{
    ApprovalSubject, Built, Deploy, Event, Payload, Policy, Reinstated, Revoked, RollbackStart, Validation,
};
use crate::gate::{Decision, Finding, GateInput, PromotionEvidence, SucceededDeploy, decide};
use crate::known_good::Marked;
use crate::plan_issue::{Revocations, RevokedArtifact};
use crate::retirement::RetirementStatus;
use crate::revocation::RevocationEvent;
use crate::version_meaning;
use crate::{
    Artifact, Effect, EnvironmentName, EventRef, EventTime, Identity, IdentityKey, Kind, Lane, LaneFold,
    LaneRef, Position, Release, ServiceName, ShortText, TargetName, Track, TrackEntry,
};

use artifacts::{Builds, RevocationLog};
use environment::EnvironmentHistory;
use history::ChangeDetails;
use interned::{Id, Interner, Releases};
use results::{CheckKind, Checks, ReleaseCatalog, Subject, VersionMeanings};
use rules::RuleEvidence;

pub use outcome::{Cause, Failure};

/// The kinds of events that affect a back-test; other kinds are ignored. Starts and failures of deploys matter only as
/// corrections of other reports.
pub const KINDS: &[Kind] = &[
    Kind::ArtifactBuilt,
    Kind::ArtifactRevoked,
    Kind::ArtifactReinstated,
    Kind::DeployStarted,
    Kind::DeploySucceeded,
    Kind::DeployFailed,
    Kind::DeployRemoved,
    Kind::TrafficSwitched,
    Kind::ValidationStarted,
    Kind::ValidationPassed,
    Kind::ValidationFailed,
    Kind::RollbackRequested,
    Kind::RollbackStarted,
    Kind::RollbackSucceeded,
    Kind::RollbackFailed,
    Kind::RollbackCancelled,
    Kind::ReleasePointMarked,
    Kind::ReleasePointRevoked,
    Kind::EnvironmentDeclared,
    Kind::EnvironmentRetired,
    Kind::ApprovalGranted,
    Kind::ApprovalRejected,
    Kind::FreezeStarted,
    Kind::FreezeLifted,
];

/// The candidate policy, and the deploys to test it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The environment to which the tested deploys go.
    pub environment: EnvironmentName,
    /// The policy to test.
    pub policy: Policy,
    /// The position after which deploys are tested. Earlier events only provide evidence.
    pub after: Position,
    /// The maximum length of each list of deploys in the report; the lists contain the first deploys.
    pub listed: usize,
    /// True to test also deploys that name a rollback without being steps of one that was started before.
    pub unknown_rollbacks: bool,
}

impl Candidate {
    /// Returns the environments of which events must be fed, in addition to events without an environment.
    #[must_use]
    pub fn environments(&self) -> Vec<&EnvironmentName> {
        let promotion = self.policy.promotion.iter().flat_map(|promotion| &promotion.from);
        std::iter::once(&self.environment).chain(promotion).collect()
    }
}

/// The decision of the candidate about one deploy.
#[derive(Debug, Clone, Copy)]
struct DeployDecision {
    position: Position,
    stopped: bool,
}

/// The effect of an event, which is reverted when the event is corrected.
#[derive(Debug, Clone, Copy)]
enum EventEffect {
    Nothing,
    /// A change of the lane with this id.
    LaneChange(Id),
    /// A start or an end of a check of this subject.
    Check(Subject),
}

/// The events that may be corrected, and the corrections.
#[derive(Debug, Default)]
struct Corrections {
    events: HashMap<IdentityKey, (Position, EventEffect)>,
    /// The effects of events that are corrections.
    corrections: HashMap<Position, EventEffect>,
    /// The corrected events, each with its correction.
    corrected_by: HashMap<Position, Position>,
}

impl Corrections {
    /// Records the correction of an event at a position. Returns the event to revert: the one with the identity or, if
    /// it has been corrected before, the last of its corrections.
    fn correct(&mut self, identity: &Identity, by: Position) -> Option<(Position, EventEffect)> {
        let (mut position, mut effect) = *self.events.get(&identity.key())?;
        while let Some(next) = self.corrected_by.get(&position) {
            position = *next;
            effect = *self.corrections.get(&position)?;
        }
        self.corrected_by.insert(position, by);
        Some((position, effect))
    }

    fn add(&mut self, identity: &Identity, event: &Event, position: Position, effect: EventEffect) {
        self.events.entry(identity.key()).or_insert((position, effect));
        if event.corrects.is_some() {
            self.corrections.insert(position, effect);
        }
    }
}

/// A back-test of a candidate policy.
#[derive(Debug)]
pub struct Backtest {
    candidate: Candidate,
    environments: BTreeMap<EnvironmentName, EnvironmentHistory>,
    lanes: Interner<Lane>,
    releases: Releases,
    checks: Checks,
    builds: Builds,
    revocations: RevocationLog,
    rule_evidence: RuleEvidence,
    corrections: Corrections,
    /// The decisions, ordered by position.
    decisions: Vec<DeployDecision>,
    /// The failed findings of the first deploys that were stopped.
    findings: BTreeMap<Position, Vec<Finding>>,
}

/// The decisions of the candidate, compared with the outcomes of the deploys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of tested deploys: those that succeeded, changed a lane, were not steps of a rollback and were not
    /// corrected.
    pub deploys: u64,
    /// The number of deploys that it would have allowed.
    pub allowed: u64,
    /// The number of deploys that it would have stopped.
    pub stopped: u64,
    /// The number of deploys that it would have stopped and that failed later.
    pub caught: u64,
    /// The number of deploys that it would have stopped and that did not fail.
    pub false_alarms: u64,
    /// The number of deploys that it would have allowed and that failed later.
    pub missed: u64,
    /// The first deploys that it would have stopped.
    pub stopped_deploys: Vec<Judged>,
    /// The first deploys that it would have allowed and that failed later.
    pub missed_deploys: Vec<Judged>,
}

/// A deploy with the decision of the candidate and the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The position of its report.
    pub position: Position,
    /// The time at which it occurred.
    pub occurred_at: DateTime<Utc>,
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// The version.
    pub version: ShortText,
    /// The findings that stopped it.
    pub findings: Vec<Finding>,
    /// The evidence that it failed later, if it did.
    pub failure: Option<Failure>,
}

impl Backtest {
    /// Creates a back-test without events.
    #[must_use]
    pub fn of(candidate: Candidate) -> Self {
        let names = candidate.environments();
        let environments =
            names.into_iter().map(|name| (name.clone(), EnvironmentHistory::default())).collect();
        Self {
            candidate,
            environments,
            lanes: Interner::default(),
            releases: Releases::default(),
            checks: Checks::default(),
            builds: Builds::default(),
            revocations: RevocationLog::default(),
            rule_evidence: RuleEvidence::default(),
            corrections: Corrections::default(),
            decisions: Vec::new(),
            findings: BTreeMap::new(),
        }
    }

    /// Applies the next event of the ledger. Events of other environments only link versions to artifacts and correct
    /// other events.
    pub fn feed(
        &mut self,
        position: Position,
        occurred_at: DateTime<Utc>,
        identity: &Identity,
        event: &Event,
    ) {
        let at = EventTime::new(occurred_at, position);
        let is_correctable = event.payload.is_correctable();
        if let Some(corrected) = event.corrects.as_ref().filter(|_| is_correctable)
            && let Some((corrected, effect)) = self.corrections.correct(corrected, position)
        {
            self.revert(corrected, effect, position);
        }
        let event_effect = if let Some((named, track, effect)) = event.payload.change() {
            self.target_of(named).map_or(EventEffect::Nothing, |target| {
                let lane = named.at(target);
                if let Payload::DeploySucceeded(deploy) = &event.payload {
                    self.test_deploy(&lane, deploy, event, at);
                }
                let since = EventRef { occurred_at, position, event_id: identity.id.clone() };
                self.apply_lane_change(lane, track, TrackEntry { effect, since }, &event.payload)
            })
        } else {
            self.apply_without_lane_change(event, at)
        };
        if is_correctable {
            self.corrections.add(identity, event, position, event_effect);
        }
    }

    /// Returns the target of a report that changes a lane; `None` if it is ambiguous, in which case no lane changes.
    fn target_of(&self, lane: &LaneRef) -> Option<TargetName> {
        match self.environments.get(&lane.environment) {
            Some(environment) => environment.target_of(lane),
            None => lane.only_target([]).ok(),
        }
    }

    /// Decides about a deploy, if it is to be tested, and records the decision.
    fn test_deploy(&mut self, lane: &Lane, deploy: &Deploy, event: &Event, at: EventTime) {
        let EventTime { occurred_at, position } = at;
        let is_step = deploy.rollback_id.as_ref().is_some_and(|rollback_id| {
            let key = (lane.service.clone(), lane.target.clone());
            !self.candidate.unknown_rollbacks
                || self.rule_evidence.is_step(rollback_id, &key, &deploy.release)
        });
        let is_tested =
            lane.environment == self.candidate.environment && !is_step && position > self.candidate.after;
        if !is_tested {
            return;
        }
        let decision = self.gate_decision(lane, &deploy.release, event, occurred_at);
        let stopped = !decision.allowed;
        self.decisions.push(DeployDecision { position, stopped });
        if stopped && self.findings.len() < self.candidate.listed {
            let failed = decision.findings.into_iter().filter(|finding| !finding.passes);
            self.findings.insert(position, failed.collect());
        }
    }

    /// Returns the decision of the gate under the candidate policy.
    fn gate_decision(
        &mut self,
        lane: &Lane,
        release: &Release,
        event: &Event,
        now: DateTime<Utc>,
    ) -> Decision {
        let Lane { environment: name, service, target } = lane;
        let promotion: Vec<EnvironmentName> =
            self.candidate.policy.promotion.iter().flat_map(|promotion| promotion.from.clone()).collect();
        for source in &promotion {
            if let Some(environment) = self.environments.get_mut(source) {
                environment.update_composition_results(source, &self.checks, &self.releases);
            }
        }
        let release = self.completed(name, service, release, EventTime::end_of(now));
        let promotable = if promotion.is_empty() { Vec::new() } else { self.promotable_releases(&release) };
        let catalog = ReleaseCatalog { releases: &self.releases, builds: &self.builds, meanings: &*self };
        let evidence = promotion.iter().filter_map(|source| {
            let environment = self.environments.get(source)?;
            let requested = (&release, &promotable[..]);
            let targets = environment.evidence((source, service), requested, (&self.checks, catalog), now);
            Some(PromotionEvidence { environment: source, policy: &environment.policy, targets })
        });
        let evidence: Vec<PromotionEvidence<'_>> = evidence.collect();
        let environment = self.environments.get(name);
        let standing =
            environment.map_or(RetirementStatus::Active(None), |environment| environment.standing(now));
        let present = environment.and_then(|environment| environment.present(service, target, standing));
        let freezes = self.rule_evidence.freezes(now);
        let key = (service.clone(), target.clone());
        let (rollbacks, mut deploys) = self.rule_evidence.rollbacks(&key);
        let mut votes = self.rule_evidence.votes(name, service, &release.version, &self.releases);
        for vote in &mut votes {
            let at = EventTime::new(vote.occurred_at, vote.vote.position);
            vote.release = self.completed(name, service, &vote.release, at);
        }
        if let Some(history) =
            environment.and_then(|it| it.lane(service, target)).filter(|_| !votes.is_empty())
        {
            deploys.extend(history.succeeded_deploys_of_version(&release.version, &self.releases));
        }
        let revoked = match &release.artifact {
            Some(artifact) => self.revocations.of(artifact).into_iter().collect(),
            None => self.revocations.of_service(service),
        };
        let input = GateInput {
            lane,
            release: &release,
            requester: event.actor.as_ref(),
            now,
            policy: &self.candidate.policy,
            retired: standing.retired_by(),
            freezes: &freezes,
            rollback: self.rule_evidence.active_rollback(),
            revocations: Revocations { revoked: &revoked, version_artifacts: None },
            rollbacks: &rollbacks,
            deploys: &deploys,
            present: present.as_deref(),
            promotion: &evidence,
            votes: &votes,
        };
        decide(&[input])
    }

    /// Returns the releases that may count as the requested one for promotion: those with its artifact, and those with
    /// its version, which may have its artifact in their lane if they state none.
    fn promotable_releases(&self, requested: &Release) -> Vec<Id> {
        let mut found = self.releases.of_version(&requested.version).to_vec();
        found.extend(requested.artifact.iter().flat_map(|artifact| self.releases.of_artifact(artifact)));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the [artifact](version_meaning::artifact_of_version) that a service's version means at a moment.
    fn artifact_of_version(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: EventTime,
    ) -> Option<&Artifact> {
        let last_deploy =
            |environment: &EnvironmentHistory| environment.last_stating_deploy(service, version, at);
        let artifact = |(_, id): (EventTime, Id)| self.releases.get(id).artifact.as_ref();
        version_meaning::artifact_of_version(
            self.environments.get(environment).and_then(last_deploy).and_then(artifact),
            || self.environments.values().filter_map(last_deploy).max().and_then(artifact),
            || self.builds.built_artifact(service, version, at),
        )
    }

    fn completed(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        release: &Release,
        at: EventTime,
    ) -> Release {
        match release.artifact {
            Some(_) => release.clone(),
            None => release
                .completed(self.artifact_of_version(environment, service, &release.version, at).cloned()),
        }
    }

    fn apply_lane_change(
        &mut self,
        lane: Lane,
        track: Track,
        entry: TrackEntry,
        payload: &Payload,
    ) -> EventEffect {
        let at = entry.since.event_time();
        let environment = self.environments.entry(lane.environment.clone()).or_default();
        let history = environment.lane(&lane.service, &lane.target);
        let details = ChangeDetails {
            deployment: payload.deployment().map(|deployment| self.checks.texts.intern(deployment)),
            rollback_id: payload.rollback_id().cloned(),
            late: history.is_some_and(|history| history.has_change_after(at)),
        };
        if let Effect::Deployed(release) = &entry.effect
            && lane.environment == self.candidate.environment
        {
            let deploy = SucceededDeploy {
                position: at.position,
                occurred_at: at.occurred_at,
                late: details.late,
                rollback_id: details.rollback_id.clone(),
                release: release.clone(),
            };
            self.rule_evidence.apply_deploy(&(lane.service.clone(), lane.target.clone()), &deploy);
        }
        environment.apply((&lane.service, &lane.target), track, entry, details, &mut self.releases);
        EventEffect::LaneChange(self.lanes.intern(&lane))
    }

    /// Returns the artifact that the version of a vote on a deploy means by the events so far, if the vote names none.
    fn artifact_of_vote(&self, payload: &Payload, at: EventTime) -> Option<Artifact> {
        let (Payload::ApprovalGranted(approval) | Payload::ApprovalRejected(approval)) = payload else {
            return None;
        };
        match &approval.subject {
            ApprovalSubject::Deploy { lane, release } if release.artifact.is_none() => {
                self.artifact_of_version(&lane.environment, &lane.service, &release.version, at).cloned()
            }
            _ => None,
        }
    }

    /// Applies an event that does not change a lane.
    fn apply_without_lane_change(&mut self, event: &Event, at: EventTime) -> EventEffect {
        let payload = &event.payload;
        let name = payload.environment();
        if name == Some(&self.candidate.environment) {
            if let Payload::RollbackStarted(start) = payload {
                self.record_acknowledged_lanes(start);
            }
            let artifact = self.artifact_of_vote(payload, at);
            self.rule_evidence.apply(event, at, artifact, &mut self.releases);
        }
        let environment = name.and_then(|name| self.environments.get_mut(name));
        match (payload, environment) {
            (Payload::ArtifactBuilt(Built { artifact, version: Some(version), .. }), _) => {
                self.builds.add(version, artifact, at);
            }
            (Payload::ArtifactRevoked(Revoked { artifact, deleted, .. }), _) => {
                let (artifact, deleted, position) = (artifact.clone(), *deleted, at.position);
                let revoked = RevokedArtifact { artifact, deleted, position };
                self.revocations.add(&RevocationEvent::Revoked(revoked), at);
            }
            (Payload::ArtifactReinstated(Reinstated { artifact }), _) => {
                self.revocations.add(&RevocationEvent::Reinstated(artifact.clone()), at);
            }
            (Payload::ValidationStarted(it), _) => return self.add_check_event(it, CheckKind::Started, at),
            (Payload::ValidationPassed(it), _) => {
                let contradicts = it.counts.is_some_and(|counts| counts.contradict_a_pass());
                let kind = if contradicts { CheckKind::Contradictory } else { CheckKind::Passed };
                return self.add_check_event(it, kind, at);
            }
            (Payload::ValidationFailed(it), _) => return self.add_check_event(it, CheckKind::Failed, at),
            (Payload::EnvironmentDeclared(_, policy), Some(environment)) => {
                environment.policy = policy.clone();
                environment.add_retirement(at, false, &self.releases);
            }
            (Payload::EnvironmentRetired(_), Some(environment)) => {
                environment.add_retirement(at, true, &self.releases);
            }
            (Payload::ReleasePointMarked(it), Some(environment)) => {
                let marked = Marked {
                    position: at.position,
                    occurred_at: at.occurred_at,
                    status: it.status,
                    name: it.name.clone(),
                    actor: event.actor.clone(),
                    reason: event.reason.clone(),
                };
                environment.mark(it.point.position, marked, &self.releases);
            }
            (Payload::ReleasePointRevoked(point), Some(environment)) => {
                environment.unmark(point.position, &self.releases);
            }
            _ => {}
        }
        EventEffect::Nothing
    }

    /// Records the live releases of the lanes that the start of a rollback acknowledges.
    fn record_acknowledged_lanes(&mut self, start: &RollbackStart) {
        let environment = self.environments.get(&start.rollback.environment);
        for (service, target) in &start.acknowledge {
            let present =
                environment.and_then(|it| it.present(service, target, it.standing(DateTime::<Utc>::MAX_UTC)));
            let live = present.as_deref().and_then(LaneFold::live).map(|live| live.release.clone());
            let lane = (service.clone(), target.clone());
            self.rule_evidence.set_actual_release(&start.rollback.rollback_id, &lane, live.as_ref());
        }
    }

    fn add_check_event(&mut self, validation: &Validation, kind: CheckKind, at: EventTime) -> EventEffect {
        let (subject, is_shared) = self.checks.add(validation, kind, at, &mut self.releases);
        self.invalidate_compositions(subject, is_shared, at.occurred_at);
        EventEffect::Check(subject)
    }

    /// Marks the results of compositions as stale after a change of check events. A shared start names a run, and may
    /// belong to a check of any subject.
    fn invalidate_compositions(&mut self, subject: Subject, is_shared: bool, from: DateTime<Utc>) {
        if is_shared || matches!(subject, Subject::Environment(_)) {
            for environment in self.environments.values_mut() {
                environment.composition_results_mut().invalidate(from);
            }
        }
    }

    /// Reverts the effect of a corrected event.
    fn revert(&mut self, corrected: Position, effect: EventEffect, known_from: Position) {
        match effect {
            EventEffect::Nothing => {}
            EventEffect::Check(subject) => {
                if let Some((time, is_shared)) = self.checks.revert(subject, corrected) {
                    self.invalidate_compositions(subject, is_shared, time);
                }
            }
            EventEffect::LaneChange(lane) => {
                let Lane { environment: name, service, target } = self.lanes.get(lane);
                let Some(environment) = self.environments.get_mut(name) else { return };
                environment.revert((service, target), corrected, known_from, &self.releases);
                if *name == self.candidate.environment
                    && let Some(history) = environment.lane(service, target)
                {
                    self.rule_evidence.revert_deploy(&(service.clone(), target.clone()), corrected, history);
                }
            }
        }
    }

    /// Compares the decisions of the candidate with the outcomes of the deploys, by all events that were fed.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let mut stopped = Vec::new();
        let mut missed = Vec::new();
        let name = &self.candidate.environment;
        let Some(environment) = self.environments.get(name) else { return report };
        let catalog = ReleaseCatalog { releases: &self.releases, builds: &self.builds, meanings: self };
        let context = outcome::Context::new(name, environment, &self.checks, catalog, &self.candidate.policy);
        let lanes = environment.lanes().iter();
        let lanes =
            lanes.flat_map(|(service, of)| of.iter().map(move |(target, lane)| (service, target, lane)));
        for (service, target, lane) in lanes {
            let exits: Vec<_> = self.rule_evidence.exits(&(service.clone(), target.clone())).collect();
            let of = outcome::LaneWithExits { service, target, lane, exits };
            let is_tested = |position| self.decision_at(position).is_some();
            context.for_each_outcome(&of, is_tested, |at, release, failure| {
                let Some(decision) = self.decision_at(at.position) else { return };
                report.count(decision.stopped, failure.is_some());
                let is_missed = failure.is_some();
                let judged = (at, service, target, release, failure);
                match decision.stopped {
                    true => stopped.push(judged),
                    false if is_missed => missed.push(judged),
                    false => {}
                }
            });
        }
        let listed = |mut all: Vec<(EventTime, &ServiceName, &TargetName, _, Option<Failure>)>| {
            all.sort_by_key(|(at, ..)| at.position);
            all.truncate(self.candidate.listed);
            let judged = all.into_iter().map(|(at, service, target, release, failure)| Judged {
                position: at.position,
                occurred_at: at.occurred_at,
                service: service.clone(),
                target: target.clone(),
                version: self.releases.get(release).version.clone(),
                findings: self.findings.get(&at.position).cloned().unwrap_or_default(),
                failure,
            });
            judged.collect()
        };
        report.stopped_deploys = listed(stopped);
        report.missed_deploys = listed(missed);
        report
    }

    fn decision_at(&self, position: Position) -> Option<DeployDecision> {
        let index = self.decisions.binary_search_by_key(&position, |decision| decision.position).ok()?;
        self.decisions.get(index).copied()
    }
}

impl VersionMeanings for Backtest {
    fn artifact_of_deploy(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let deploys_after = || {
            let deploys = self.environments.values();
            let deploys = deploys.filter_map(move |it| it.first_stating_deploy(service, version, at));
            deploys.filter_map(move |(at, id)| Some((at, self.releases.get(id).artifact.as_ref()?)))
        };
        version_meaning::artifact_of_deploy(
            self.artifact_of_version(environment, service, version, EventTime::end_of(at)),
            deploys_after,
            || self.builds.first_after(service, version, at),
        )
    }
}

impl Report {
    const fn count(&mut self, stopped: bool, failed: bool) {
        self.deploys += 1;
        match (stopped, failed) {
            (true, true) => self.caught += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.missed += 1,
            (false, false) => {}
        }
        if stopped {
            self.stopped += 1;
        } else {
            self.allowed += 1;
        }
    }
}

#[cfg(test)]
mod tests;
