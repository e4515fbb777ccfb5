//! A candidate policy over the real history: which deploys it would have stopped, and what became of them.
//!
//! Fed the ledger's events in their order, it decides at each deploy by what was fed before, which is what was
//! known then, and by the gate's own rules. What became of a deploy is told by all that was fed.
//!
//! It keeps what it was fed in memory, but small: about 400 bytes for each distinct release, and 50 to 100
//! for every other change or verdict. A million events of which a third are deploys, of one release in two
//! or three environments, take some 150 MB.

mod history;
mod interned;
mod outcome;
mod rules;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::event::{Deploy, Event, Fact, Policy};
use crate::gate::{Case, Finding, findings};
use crate::known_good::Marked;
use crate::obstacle::RevokedArtifact;
use crate::{Artifact, EnvironmentName, Kind, Line, Position, ServiceName, TargetName};

use history::{Environment, Moment, Shared};
use rules::Rules;

pub use outcome::{Cause, Failure};

/// The kinds of events that tell it something. Others may be fed too.
pub const KINDS: &[Kind] = &[
    Kind::ArtifactRevoked,
    Kind::DeploySucceeded,
    Kind::DeployRemoved,
    Kind::TrafficSwitched,
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
struct Decision {
    position: Position,
    stopped: bool,
}

/// A candidate policy on its way through the history.
#[derive(Debug)]
pub struct Backtest {
    candidate: Candidate,
    environments: BTreeMap<EnvironmentName, Environment>,
    shared: Shared,
    rules: Rules,
    revoked: HashMap<Artifact, RevokedArtifact>,
    /// In the order of positions.
    decisions: Vec<Decision>,
    /// What stopped the first ones that were stopped.
    findings: BTreeMap<Position, Vec<Finding>>,
}

/// What the candidate would have done, and what became of the deploys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Deploys that were judged: those that succeeded, and were no rollback's steps.
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
    pub version: Line,
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
            shared: Shared::default(),
            rules: Rules::default(),
            revoked: HashMap::new(),
            decisions: Vec::new(),
            findings: BTreeMap::new(),
        }
    }

    /// Takes the next event of the ledger. Those of other environments are passed over.
    pub fn feed(&mut self, position: Position, occurred_at: DateTime<Utc>, event: &Event) {
        let at = Moment { occurred_at, position };
        if let Fact::DeploySucceeded(deploy) = &event.fact
            && deploy.lane.environment == self.candidate.environment
            && deploy.rollback_id.is_none()
            && position > self.candidate.after
        {
            let findings = self.decide(deploy, event, occurred_at);
            let stopped = findings.iter().any(|finding| !finding.passes);
            self.decisions.push(Decision { position, stopped });
            if stopped && self.findings.len() < self.candidate.listed {
                let failed = findings.into_iter().filter(|finding| !finding.passes);
                self.findings.insert(position, failed.collect());
            }
        }
        self.note(event, at);
    }

    /// What the gate would have said by the candidate.
    fn decide(&self, deploy: &Deploy, event: &Event, now: DateTime<Utc>) -> Vec<Finding> {
        let Deploy { lane, release, .. } = deploy;
        let promotion = self.candidate.policy.promotion.iter().flat_map(|promotion| &promotion.from);
        let provings = promotion.filter_map(|name| {
            let environment = self.environments.get(name)?;
            Some(environment.proving(name, &lane.service, release, &self.shared, now))
        });
        let key = (lane.service.clone(), lane.target.clone().unwrap_or_default());
        findings(&Case {
            policy: &self.candidate.policy,
            freezes: &self.rules.freezes(now),
            rollback: self.rules.under_way(),
            revoked: release.artifact.as_ref().and_then(|artifact| self.revoked.get(artifact)),
            hold: self.rules.hold(&key, release),
            provings: &provings.collect::<Vec<_>>(),
            answers: &self.rules.answers(&key, release),
            requester: event.actor.as_ref(),
        })
    }

    fn note(&mut self, event: &Event, at: Moment) {
        let fact = &event.fact;
        if fact.environment() == Some(&self.candidate.environment) {
            self.rules.hear(event, at);
        }
        let environment = fact.environment().and_then(|name| self.environments.get_mut(name));
        match (fact, environment) {
            (Fact::ArtifactRevoked(it), _) => {
                let artifact = it.artifact.clone();
                let first = RevokedArtifact { artifact, deleted: false, position: at.position };
                self.revoked.entry(it.artifact.clone()).or_insert(first).deleted |= it.deleted;
            }
            (Fact::ValidationPassed(it), environment) => self.shared.hear(environment, it, true, at),
            (Fact::ValidationFailed(it), environment) => self.shared.hear(environment, it, false, at),
            (Fact::EnvironmentDeclared(_, policy), Some(environment)) => environment.policy = policy.clone(),
            (Fact::ReleasePointMarked(it), Some(environment)) => {
                let marked = Marked {
                    position: at.position,
                    occurred_at: at.occurred_at,
                    status: it.status,
                    name: it.name.clone(),
                    actor: event.actor.clone(),
                    reason: event.reason.clone(),
                };
                environment.marks.insert(it.point.position, marked);
            }
            (Fact::ReleasePointRevoked(point), Some(environment)) => {
                environment.marks.remove(&point.position);
            }
            (fact, Some(environment)) => {
                if let Some((lane, track, effect)) = fact.change() {
                    self.shared.see(environment, (lane, &track, &effect), fact.deployment(), at);
                }
            }
            (_, None) => {}
        }
    }

    /// What the candidate would have done, and what became of the deploys by all that was fed.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let mut stopped = Vec::new();
        let mut missed = Vec::new();
        let Some(environment) = self.environments.get(&self.candidate.environment) else { return report };
        let by = outcome::Told { environment, shared: &self.shared, candidate: &self.candidate.policy };
        let lanes = environment.lanes.iter();
        let lanes =
            lanes.flat_map(|(service, of)| of.iter().map(move |(target, lane)| (service, target, lane)));
        for (service, target, lane) in lanes {
            let leaving: Vec<_> = self.rules.leaving(&(service.clone(), target.clone())).collect();
            outcome::outcomes(lane, &leaving, &by, |at, release, failure| {
                let Some(decision) = self.decision(at.position) else { return };
                report.count(decision.stopped, failure.is_some());
                let told = (at, service, target, release, failure);
                match decision.stopped {
                    true => stopped.push(told),
                    false if told.4.is_some() => missed.push(told),
                    false => {}
                }
            });
        }
        let listed = |mut all: Vec<(Moment, &ServiceName, &TargetName, _, Option<Failure>)>| {
            all.sort_by_key(|(at, ..)| at.position);
            all.truncate(self.candidate.listed);
            let judged = all.into_iter().map(|(at, service, target, release, failure)| Judged {
                position: at.position,
                occurred_at: at.occurred_at,
                service: service.clone(),
                target: target.clone(),
                version: self.shared.releases.get(release).version.clone(),
                findings: self.findings.get(&at.position).cloned().unwrap_or_default(),
                failure,
            });
            judged.collect()
        };
        report.stopped_deploys = listed(stopped);
        report.missed_deploys = listed(missed);
        report
    }

    fn decision(&self, at: Position) -> Option<Decision> {
        let index = self.decisions.binary_search_by_key(&at, |decision| decision.position).ok()?;
        self.decisions.get(index).copied()
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
