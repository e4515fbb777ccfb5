//! A candidate policy over the real history: which deploys it would have stopped, and what became of them.
//!
//! Fed the ledger's events in their order, it decides at each deploy by what was fed before, which is what was known then, and by
//! the gate's own rules. What became of a deploy is found by all that was fed. What a version means is found by what is fed: deploys of
//! environments that are not fed do not tell it.
//!
//! It keeps what it was fed in memory: about 400 bytes for each distinct release and for each change of a lane, 100 to 200 for each
//! start or end of a check, 200 for each answer. A million events of 100 services, of which two of seven are deploys and three are
//! checks, take some 400 MB.

mod artifacts;
mod environment;
mod history;
mod interned;
mod outcome;
mod results;
mod rules;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::event::{Built, Deploy, Event, Payload, Policy, Reinstated, Revoked};
use crate::gate::{Decision, Finding, GateInput, PromotionEvidence, decide};
use crate::known_good::Marked;
use crate::plan_issue::Revocations;
use crate::retirement::Standing;
use crate::{
    Artifact, EnvironmentName, Identity, IdentityKey, Kind, Lane, LaneRef, Position, Release, ServiceName,
    ShortText, Since, TargetName, TrackEntry,
};

use artifacts::{Builds, RevocationLog};
use environment::Environment;
use history::{Details, EventTime};
use interned::{Id, Releases, Table};
use results::{CheckKind, Checks, Known, Subject};
use rules::Rules;

pub use outcome::{Cause, Failure};

/// The kinds of events that tell it something. Others may be fed too. Starts and failures of deploys do as corrections of other reports.
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

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The environment whose deploys are judged.
    pub environment: EnvironmentName,
    /// The policy that it might have had.
    pub policy: Policy,
    /// Deploys up to this position are not judged: they only tell what was known.
    pub after: Position,
    /// So many deploys of each list are told one by one, the first ones.
    pub listed: usize,
}

impl Candidate {
    /// The environments whose events it has to be fed, besides those that belong to none.
    #[must_use]
    pub fn environments(&self) -> Vec<&EnvironmentName> {
        let promotion = self.policy.promotion.iter().flat_map(|promotion| &promotion.from);
        std::iter::once(&self.environment).chain(promotion).collect()
    }
}

/// A decision of the candidate, kept small.
#[derive(Debug, Clone, Copy)]
struct Judgement {
    position: Position,
    stopped: bool,
}

/// What has to be taken back of an event that is corrected.
#[derive(Debug, Clone, Copy)]
enum Effects {
    Nothing,
    Change(Id),
    Check(Subject),
}

/// The events that may be corrected, and those that were.
#[derive(Debug, Default)]
struct Corrections {
    events: HashMap<IdentityKey, (Position, Effects)>,
    /// The effects of events that correct others.
    correcting: HashMap<Position, Effects>,
    /// Events without effect, each with the one that corrects it.
    corrected_by: HashMap<Position, Position>,
}

impl Corrections {
    /// Returns what has no effect from a position on: the event with an identity or, where that was corrected before, the last of its
    /// corrections.
    fn correct(&mut self, identity: &Identity, by: Position) -> Option<(Position, Effects)> {
        let (mut position, mut effects) = *self.events.get(&identity.key())?;
        while let Some(next) = self.corrected_by.get(&position) {
            position = *next;
            effects = *self.correcting.get(&position)?;
        }
        self.corrected_by.insert(position, by);
        Some((position, effects))
    }

    fn add(&mut self, identity: &Identity, event: &Event, position: Position, effects: Effects) {
        self.events.entry(identity.key()).or_insert((position, effects));
        if event.corrects.is_some() {
            self.correcting.insert(position, effects);
        }
    }
}

/// A candidate policy on its way through the history.
#[derive(Debug)]
pub struct Backtest {
    candidate: Candidate,
    environments: BTreeMap<EnvironmentName, Environment>,
    lanes: Table<Lane>,
    releases: Releases,
    checks: Checks,
    builds: Builds,
    revocations: RevocationLog,
    rules: Rules,
    corrections: Corrections,
    /// In the order of positions.
    judgements: Vec<Judgement>,
    /// What stopped the first ones that were stopped.
    findings: BTreeMap<Position, Vec<Finding>>,
}

/// What the candidate would have done, and what became of the deploys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Deploys that were judged: those that succeeded, changed a lane, were no rollback's steps and have not been corrected.
    pub deploys: u64,
    /// Deploys that it would have let through.
    pub allowed: u64,
    /// Deploys that it would have stopped.
    pub stopped: u64,
    /// Deploys that it would have stopped, and that failed later.
    pub caught: u64,
    /// Deploys that it would have stopped, and that did not fail.
    pub false_alarms: u64,
    /// Deploys that it would have let through, and that failed later.
    pub missed: u64,
    /// The first that it would have stopped.
    pub stopped_deploys: Vec<Judged>,
    /// The first that it would have let through, and that failed later.
    pub missed_deploys: Vec<Judged>,
}

/// A deploy, as the candidate judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Where it is told.
    pub position: Position,
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// The version.
    pub version: ShortText,
    /// What stopped it.
    pub findings: Vec<Finding>,
    /// What shows that it failed later, if it did.
    pub failure: Option<Failure>,
}

impl Backtest {
    /// Nothing is known yet.
    #[must_use]
    pub fn of(candidate: Candidate) -> Self {
        let names = candidate.environments();
        let environments = names.into_iter().map(|name| (name.clone(), Environment::default())).collect();
        Self {
            candidate,
            environments,
            lanes: Table::default(),
            releases: Releases::default(),
            checks: Checks::default(),
            builds: Builds::default(),
            revocations: RevocationLog::default(),
            rules: Rules::default(),
            corrections: Corrections::default(),
            judgements: Vec::new(),
            findings: BTreeMap::new(),
        }
    }

    /// Takes the next event of the ledger. Those of other environments only tell what versions mean, and what they correct.
    pub fn feed(
        &mut self,
        position: Position,
        occurred_at: DateTime<Utc>,
        identity: &Identity,
        event: &Event,
    ) {
        let at = EventTime { occurred_at, position };
        let is_correctable = event.payload.is_correctable();
        if let Some(corrected) = event.corrects.as_ref().filter(|_| is_correctable)
            && let Some((corrected, effects)) = self.corrections.correct(corrected, position)
        {
            self.take_back(corrected, effects, position);
        }
        let effects = if let Some((named, track, effect)) = event.payload.change() {
            self.target_of(named).map_or(Effects::Nothing, |target| {
                let lane = named.at(target);
                if let Payload::DeploySucceeded(deploy) = &event.payload {
                    self.judge(&lane, deploy, event, at);
                }
                let since = Since { occurred_at, position, event_id: identity.id.clone() };
                self.change(lane, track, TrackEntry { effect, since }, &event.payload)
            })
        } else {
            self.apply(event, at)
        };
        if is_correctable {
            self.corrections.add(identity, event, position, effects);
        }
    }

    /// The target of a report that changes a lane; `None` if it is ambiguous: then no lane changes.
    fn target_of(&self, lane: &LaneRef) -> Option<TargetName> {
        match self.environments.get(&lane.environment) {
            Some(environment) => environment.target_of(lane),
            None => Some(lane.target.clone().unwrap_or_default()),
        }
    }

    fn judge(&mut self, lane: &Lane, deploy: &Deploy, event: &Event, at: EventTime) {
        let EventTime { occurred_at, position } = at;
        let is_judged = lane.environment == self.candidate.environment
            && deploy.rollback_id.is_none()
            && position > self.candidate.after;
        if !is_judged {
            return;
        }
        let decision = self.decide(lane, &deploy.release, event, occurred_at);
        let stopped = !decision.allowed;
        self.judgements.push(Judgement { position, stopped });
        if stopped && self.findings.len() < self.candidate.listed {
            let failed = decision.findings.into_iter().filter(|finding| !finding.passes);
            self.findings.insert(position, failed.collect());
        }
    }

    /// Decides as the gate would have by the candidate.
    fn decide(&mut self, lane: &Lane, release: &Release, event: &Event, now: DateTime<Utc>) -> Decision {
        let Lane { environment: name, service, target } = lane;
        let promotion: Vec<EnvironmentName> =
            self.candidate.policy.promotion.iter().flat_map(|promotion| promotion.from.clone()).collect();
        for former in &promotion {
            if let Some(environment) = self.environments.get_mut(former) {
                environment.update_compositions(former, &self.checks, &self.releases);
            }
        }
        let release = self.completed(name, service, release, now);
        let known = Known { releases: &self.releases, builds: &self.builds };
        let evidence = promotion.iter().filter_map(|former| {
            let environment = self.environments.get(former)?;
            let asked = self.asked(former, service, &release, now);
            let targets = environment.evidence((former, service), &asked, (&self.checks, known), now);
            Some(PromotionEvidence { environment: former, policy: &environment.policy, targets })
        });
        let evidence: Vec<PromotionEvidence<'_>> = evidence.collect();
        let environment = self.environments.get(name);
        let standing = environment.map_or(Standing::Open(None), |environment| environment.standing(now));
        let retired = match standing {
            Standing::Retired(position) => Some(position),
            Standing::Open(_) => None,
        };
        let present = environment.and_then(|environment| environment.present(service, target, standing));
        let freezes = self.rules.freezes(now);
        let key = (service.clone(), target.clone());
        let (rollbacks, mut deploys) = self.rules.rollbacks(&key);
        let mut answers = self.rules.answers(name, service, &release.version, &self.releases);
        for answer in &mut answers {
            answer.release = self.completed(name, service, &answer.release, answer.occurred_at);
        }
        if let Some(history) =
            environment.and_then(|it| it.lane(service, target)).filter(|_| !answers.is_empty())
        {
            deploys.extend(history.succeeded(&release.version, &self.releases));
        }
        let revoked = match &release.artifact {
            Some(artifact) => self.revocations.of(artifact).into_iter().collect(),
            None => self.revocations.named(service),
        };
        let input = GateInput {
            lane,
            release: &release,
            requester: event.actor.as_ref(),
            now,
            policy: &self.candidate.policy,
            retired,
            freezes: &freezes,
            rollback: self.rules.under_way(),
            revocations: Revocations { revoked: &revoked, meant: None },
            rollbacks: &rollbacks,
            deploys: &deploys,
            present: present.as_deref(),
            promotion: &evidence,
            answers: &answers,
        };
        decide(&[input])
    }

    /// The releases that may be promoted as the one that is asked for: of the same artifact or, where none is known, of the same version.
    fn asked(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        asked: &Release,
        now: DateTime<Utc>,
    ) -> Vec<Id> {
        let of_version = self.releases.of_version(&asked.version).iter().copied();
        let Some(artifact) = &asked.artifact else { return of_version.collect() };
        let mut found = self.releases.of_artifact(artifact);
        let mut of_version = of_version.filter(|id| self.releases.get(*id).artifact.is_none()).peekable();
        if of_version.peek().is_some()
            && self.meant(environment, service, &asked.version, now).is_none_or(|it| it.is_same(artifact))
        {
            found.extend(of_version);
        }
        found
    }

    /// The artifact that a version of a service means at a time: that of the last deploy that states one, of the environment rather than of
    /// another; else that of what was built.
    fn meant(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let stated = |it: &Environment| it.stated(service, version, at, &self.releases);
        let here = self.environments.get(environment).and_then(stated);
        let stated = here.or_else(|| self.environments.values().filter_map(stated).max());
        match stated {
            Some((_, id)) => self.releases.get(id).artifact.as_ref(),
            None => self.builds.meant(service, version, at),
        }
    }

    fn completed(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        release: &Release,
        at: DateTime<Utc>,
    ) -> Release {
        match release.artifact {
            Some(_) => release.clone(),
            None => release.completed(self.meant(environment, service, &release.version, at).cloned()),
        }
    }

    fn change(&mut self, lane: Lane, track: crate::Track, written: TrackEntry, payload: &Payload) -> Effects {
        let at = EventTime { occurred_at: written.since.occurred_at, position: written.since.position };
        let environment = self.environments.entry(lane.environment.clone()).or_default();
        let history = environment.lane(&lane.service, &lane.target);
        let details = Details {
            deployment: payload.deployment().map(|deployment| self.checks.lines.id(deployment)),
            rollback_id: payload.rollback_id().cloned(),
            late: history.is_some_and(|history| history.is_behind(at)),
        };
        if let crate::Effect::Deployed(release) = &written.effect
            && lane.environment == self.candidate.environment
        {
            let deploy = crate::gate::SucceededDeploy {
                position: at.position,
                occurred_at: at.occurred_at,
                late: details.late,
                rollback_id: details.rollback_id.clone(),
                release: release.clone(),
            };
            self.rules.deployed(&(lane.service.clone(), lane.target.clone()), &deploy);
        }
        environment.apply((&lane.service, &lane.target), track, written, details, &mut self.releases);
        Effects::Change(self.lanes.id(&lane))
    }

    /// Applies what an event says that changes no lane.
    fn apply(&mut self, event: &Event, at: EventTime) -> Effects {
        let payload = &event.payload;
        let name = payload.environment();
        if name == Some(&self.candidate.environment) {
            if let Payload::RollbackStarted(start) = payload {
                self.note_acknowledged(start);
            }
            self.rules.apply(event, at, &mut self.releases);
        }
        let environment = name.and_then(|name| self.environments.get_mut(name));
        match (payload, environment) {
            (Payload::ArtifactBuilt(Built { artifact, version: Some(version), .. }), _) => {
                self.builds.add(version, artifact, at);
            }
            (Payload::ArtifactRevoked(Revoked { artifact, deleted, .. }), _) => {
                self.revocations.revoke(artifact, *deleted, at);
            }
            (Payload::ArtifactReinstated(Reinstated { artifact }), _) => {
                self.revocations.reinstate(artifact, at);
            }
            (Payload::ValidationStarted(it), _) => return self.check(it, CheckKind::Started, at),
            (Payload::ValidationPassed(it), _) => {
                let contradicts = it.counts.is_some_and(|counts| counts.contradict_a_pass());
                let kind = if contradicts { CheckKind::Contradictory } else { CheckKind::Passed };
                return self.check(it, kind, at);
            }
            (Payload::ValidationFailed(it), _) => return self.check(it, CheckKind::Failed, at),
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
        Effects::Nothing
    }

    /// Notes what the lanes run that a start acknowledges.
    fn note_acknowledged(&mut self, start: &crate::event::RollbackStart) {
        let environment = self.environments.get(&start.rollback.environment);
        for (service, target) in &start.acknowledge {
            let present =
                environment.and_then(|it| it.present(service, target, it.standing(DateTime::<Utc>::MAX_UTC)));
            let runs = present.as_deref().and_then(crate::LaneFold::live).map(|live| live.release.clone());
            let lane = (service.clone(), target.clone());
            self.rules.started_from(&start.rollback.rollback_id, &lane, runs.as_ref());
        }
    }

    fn check(&mut self, validation: &crate::event::Validation, kind: CheckKind, at: EventTime) -> Effects {
        let (subject, is_shared) = self.checks.add(validation, kind, at, &mut self.releases);
        self.outdate_compositions(subject, is_shared, at.occurred_at);
        Effects::Check(subject)
    }

    /// A start that names a run may be that of any check.
    fn outdate_compositions(&mut self, subject: Subject, is_shared: bool, from: DateTime<Utc>) {
        if is_shared || matches!(subject, Subject::Environment(_)) {
            for environment in self.environments.values_mut() {
                environment.compositions().outdate(from);
            }
        }
    }

    /// Takes back what a corrected event did.
    fn take_back(&mut self, corrected: Position, effects: Effects, known_from: Position) {
        match effects {
            Effects::Nothing => {}
            Effects::Check(subject) => {
                if let Some((time, is_shared)) = self.checks.take_back(subject, corrected) {
                    self.outdate_compositions(subject, is_shared, time);
                }
            }
            Effects::Change(lane) => {
                let Lane { environment: name, service, target } = self.lanes.get(lane);
                let Some(environment) = self.environments.get_mut(name) else { return };
                environment.take_back((service, target), corrected, known_from, &self.releases);
                if *name == self.candidate.environment
                    && let Some(history) = environment.lane(service, target)
                {
                    self.rules.take_back(&(service.clone(), target.clone()), corrected, history);
                }
            }
        }
    }

    /// What the candidate would have done, and what became of the deploys by all that was fed.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let mut stopped = Vec::new();
        let mut missed = Vec::new();
        let name = &self.candidate.environment;
        let Some(environment) = self.environments.get(name) else { return report };
        let known = Known { releases: &self.releases, builds: &self.builds };
        let context = outcome::Context::of(name, environment, &self.checks, known, &self.candidate.policy);
        let lanes = environment.lanes().iter();
        let lanes =
            lanes.flat_map(|(service, of)| of.iter().map(move |(target, lane)| (service, target, lane)));
        for (service, target, lane) in lanes {
            let exits: Vec<_> = self.rules.exits(&(service.clone(), target.clone())).collect();
            let of = outcome::OfLane { service, target, lane, exits };
            let is_judged = |position| self.judgement(position).is_some();
            context.outcomes(&of, is_judged, |at, release, failure| {
                let Some(judgement) = self.judgement(at.position) else { return };
                report.count(judgement.stopped, failure.is_some());
                let is_missed = failure.is_some();
                let judged = (at, service, target, release, failure);
                match judgement.stopped {
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

    fn judgement(&self, at: Position) -> Option<Judgement> {
        let index = self.judgements.binary_search_by_key(&at, |judgement| judgement.position).ok()?;
        self.judgements.get(index).copied()
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
