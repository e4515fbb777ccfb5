//! Freezes, rollbacks and approval votes of the candidate's environment, from the events applied so far.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::history::LaneHistory;
use super::interned::{Id, Interner, Releases, push_compact};
use crate::event::{Actor, Approval, ApprovalSubject, Event, Freeze, Payload, RollbackRequest};
use crate::gate::{ApprovalVote, DeployVote, HoldState, RolledBackRelease, SucceededDeploy, hold};
use crate::plan_issue::{ActiveFreeze, RecordedFreeze};
use crate::rollback::RollbackPhase;
use crate::{
    Artifact, EnvironmentName, EventTime, FreezePeriod, LaneRef, Position, Release, ServiceName, ShortText,
    TargetName,
};

/// A lane of the environment.
type LaneKey = (ServiceName, TargetName);

/// A rollback's step in one lane, which takes a release out of it.
#[derive(Debug)]
pub(super) struct ReleaseExit {
    pub(super) left: RolledBackRelease,
    /// The time of the rollback's request.
    pub(super) at: EventTime,
    /// The deploy that ended the hold, if there is one.
    ended_by: Option<SucceededDeploy>,
}

impl ReleaseExit {
    /// Returns true if the step may hold a release.
    const fn may_hold(&self) -> bool {
        self.left.from.is_some() && !self.left.cancelled && self.ended_by.is_none()
    }

    /// Returns true if a deploy ends the hold, by the gate's rule.
    fn is_ended_by(&self, deploy: &SucceededDeploy) -> bool {
        let Some(from) = &self.left.from else { return false };
        let left = RolledBackRelease { started: true, cancelled: false, ..self.left.clone() };
        hold(from, &[left], std::slice::from_ref(deploy), &[]) == HoldState::Free
    }
}

/// The phase of a rollback, and the lanes of its plan.
#[derive(Debug)]
struct RollbackProgress {
    requested: Position,
    phase: RollbackPhase,
    lanes: Vec<LaneKey>,
}

/// The evidence for the rules on freezes, rollbacks and approvals.
#[derive(Debug, Default)]
pub(super) struct RuleEvidence {
    freezes: Vec<RecordedFreeze>,
    rollbacks: HashMap<ShortText, RollbackProgress>,
    /// The active rollbacks, by the position of their requests.
    active_rollbacks: BTreeMap<Position, ShortText>,
    exits: HashMap<LaneKey, Vec<ReleaseExit>>,
    /// The votes on deploys, by service and version.
    votes: HashMap<(Id, Id), Vec<StatedVote>>,
    services: Interner<ServiceName>,
    /// Versions, and the types and names of actors.
    texts: Interner<ShortText>,
    targets: Interner<TargetName>,
}

/// A vote on a deploy, with the release as stated or, if it states no artifact, with the one that its version meant when
/// the vote was recorded.
#[derive(Debug)]
struct StatedVote {
    /// The actor's type and name.
    actor: (Id, Id),
    granted: bool,
    at: EventTime,
    target: Option<Id>,
    release: Id,
    expires_at: Option<DateTime<Utc>>,
}

impl RuleEvidence {
    /// Applies an event of the environment. `artifact` is the one that the version of a vote means by the events so
    /// far.
    pub(super) fn apply(
        &mut self,
        event: &Event,
        at: EventTime,
        artifact: Option<Artifact>,
        releases: &mut Releases,
    ) {
        match &event.payload {
            Payload::RollbackRequested(request) => self.request(request, at),
            Payload::RollbackStarted(it) => {
                self.set_phase(&it.rollback.rollback_id, RollbackPhase::Started, at);
            }
            Payload::RollbackSucceeded(it) => self.set_phase(&it.rollback_id, RollbackPhase::Succeeded, at),
            Payload::RollbackFailed(it) => self.set_phase(&it.rollback_id, RollbackPhase::Failed, at),
            Payload::RollbackCancelled(it) => self.set_phase(&it.rollback_id, RollbackPhase::Cancelled, at),
            Payload::ApprovalGranted(approval) => {
                self.add_vote(event, approval, true, (at, artifact, releases));
            }
            Payload::ApprovalRejected(approval) => {
                self.add_vote(event, approval, false, (at, artifact, releases));
            }
            Payload::FreezeStarted(Freeze { freeze_id, until, .. }) => self.freezes.push(RecordedFreeze {
                freeze_id: freeze_id.clone(),
                position: at.position,
                period: FreezePeriod { started_at: at.occurred_at, until: *until, lifted_at: None },
            }),
            Payload::FreezeLifted(Freeze { freeze_id, .. }) => {
                let lifted = self.freezes.iter_mut().filter(|freeze| freeze.freeze_id == *freeze_id);
                for freeze in lifted {
                    freeze.period.lifted_at.get_or_insert(at.occurred_at);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, request: &RollbackRequest, at: EventTime) {
        let rollback_id = &request.rollback.rollback_id;
        if self.rollbacks.contains_key(rollback_id) {
            return;
        }
        let steps = &request.plan.steps;
        let lanes: Vec<LaneKey> =
            steps.iter().map(|step| (step.service.clone(), step.target.clone())).collect();
        for (step, lane) in steps.iter().zip(&lanes) {
            let left = RolledBackRelease {
                rollback_id: rollback_id.clone(),
                requested: at.position,
                started: false,
                cancelled: false,
                ended: None,
                by_person: request.initiated_by.is_person(),
                from: step.from.clone(),
                to: step.to.clone(),
            };
            self.exits.entry(lane.clone()).or_default().push(ReleaseExit { left, at, ended_by: None });
        }
        let progress = RollbackProgress { requested: at.position, phase: RollbackPhase::Requested, lanes };
        self.rollbacks.insert(rollback_id.clone(), progress);
        self.active_rollbacks.insert(at.position, rollback_id.clone());
    }

    fn set_phase(&mut self, rollback_id: &ShortText, phase: RollbackPhase, at: EventTime) {
        let Some(progress) = self.rollbacks.get_mut(rollback_id) else { return };
        if !progress.phase.is_active()
            || phase == RollbackPhase::Started && progress.phase == RollbackPhase::Started
        {
            return;
        }
        progress.phase = phase;
        if !phase.is_active() {
            self.active_rollbacks.remove(&progress.requested);
        }
        for lane in &progress.lanes {
            let exits = self.exits.get_mut(lane).into_iter().flatten();
            for exit in exits.filter(|exit| exit.left.rollback_id == *rollback_id) {
                exit.left.started |= phase == RollbackPhase::Started;
                exit.left.cancelled |= phase == RollbackPhase::Cancelled;
                if !phase.is_active() {
                    exit.left.ended = Some(at.position);
                }
            }
        }
    }

    fn add_vote(
        &mut self,
        event: &Event,
        approval: &Approval,
        granted: bool,
        (at, artifact, releases): (EventTime, Option<Artifact>, &mut Releases),
    ) {
        let (ApprovalSubject::Deploy { lane, release }, Some(actor)) = (&approval.subject, &event.actor)
        else {
            return;
        };
        let key = (self.services.intern(&lane.service), self.texts.intern(&release.version));
        let vote = StatedVote {
            actor: (self.texts.intern(&actor.kind), self.texts.intern(&actor.name)),
            granted,
            at,
            target: lane.target.as_ref().map(|target| self.targets.intern(target)),
            release: releases.intern(&release.completed(artifact)),
            expires_at: approval.expires_at,
        };
        push_compact(self.votes.entry(key).or_default(), vote);
    }

    /// Records the live release of a lane at the start of a rollback, if the start acknowledges that it differs from
    /// the plan.
    pub(super) fn set_actual_release(
        &mut self,
        rollback_id: &ShortText,
        lane: &LaneKey,
        live: Option<&Release>,
    ) {
        let exits = self.exits.get_mut(lane).into_iter().flatten();
        for exit in exits.filter(|exit| exit.left.rollback_id == *rollback_id && !exit.left.started) {
            exit.left.from = live.cloned();
        }
    }

    /// Applies a deploy to a lane, which may end holds.
    pub(super) fn apply_deploy(&mut self, lane: &LaneKey, deploy: &SucceededDeploy) {
        let exits = self.exits.get_mut(lane).into_iter().flatten();
        for exit in exits.filter(|exit| exit.may_hold() && exit.is_ended_by(deploy)) {
            exit.ended_by = Some(deploy.clone());
        }
    }

    /// Reverts a deploy of a corrected event. Another deploy may end a hold instead.
    pub(super) fn revert_deploy(&mut self, lane: &LaneKey, corrected: Position, history: &LaneHistory) {
        let is_ended_by_it =
            |exit: &ReleaseExit| exit.ended_by.as_ref().is_some_and(|deploy| deploy.position == corrected);
        for exit in self.exits.get_mut(lane).into_iter().flatten().filter(|exit| is_ended_by_it(exit)) {
            let after = history.succeeded_deploys_after(exit.left.requested);
            exit.ended_by = after.into_iter().find(|deploy| exit.is_ended_by(deploy));
        }
    }

    /// Returns the freezes that are active at a time.
    pub(super) fn freezes(&self, time: DateTime<Utc>) -> Vec<ActiveFreeze> {
        self.freezes.iter().filter_map(|freeze| freeze.active_at(time)).collect()
    }

    /// Returns the rollback under way and the position of its request.
    pub(super) fn active_rollback(&self) -> Option<(&ShortText, Position)> {
        self.active_rollbacks.last_key_value().map(|(position, rollback_id)| (rollback_id, *position))
    }

    /// Returns the rollbacks of a lane from the first that may hold a release, and the deploys that ended their holds.
    pub(super) fn rollbacks(&self, lane: &LaneKey) -> (Vec<RolledBackRelease>, Vec<SucceededDeploy>) {
        let exits = self.exits.get(lane).map_or(&[][..], Vec::as_slice);
        let first = exits.iter().position(ReleaseExit::may_hold).unwrap_or(exits.len());
        let exits = &exits[first..];
        let ended_by = exits.iter().filter_map(|exit| exit.ended_by.clone());
        (exits.iter().map(|exit| exit.left.clone()).collect(), ended_by.collect())
    }

    /// Returns the votes on deploys of a version of a service.
    pub(super) fn votes(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        releases: &Releases,
    ) -> Vec<DeployVote> {
        let key = self.services.id_of(service).zip(self.texts.id_of(version));
        let stated = key.and_then(|key| self.votes.get(&key)).into_iter().flatten();
        let votes = stated.map(|stated| DeployVote {
            vote: ApprovalVote {
                actor: self.actor(stated),
                granted: stated.granted,
                position: stated.at.position,
            },
            occurred_at: stated.at.occurred_at,
            lane: LaneRef {
                environment: environment.clone(),
                service: service.clone(),
                target: stated.target.map(|target| self.targets.get(target).clone()),
            },
            release: releases.get(stated.release).clone(),
            expires_at: stated.expires_at,
        });
        votes.collect()
    }

    fn actor(&self, stated: &StatedVote) -> Actor {
        let [kind, name] = [stated.actor.0, stated.actor.1].map(|id| self.texts.get(id).clone());
        Actor { kind, name }
    }

    /// Returns true if the deploy of a release to a lane is a step of a rollback that was started.
    pub(super) fn is_step(&self, rollback_id: &ShortText, lane: &LaneKey, release: &Release) -> bool {
        let exits = self.exits.get(lane).into_iter().flatten();
        let started = exits.filter(|exit| exit.left.rollback_id == *rollback_id && exit.left.started);
        started.filter_map(|exit| exit.left.to.as_ref()).any(|to| to.either_matches(release))
    }

    /// Returns the rollback steps that take a release out of a lane, without those of cancelled rollbacks.
    pub(super) fn exits(&self, lane: &LaneKey) -> impl Iterator<Item = &ReleaseExit> {
        let exits = self.exits.get(lane).into_iter().flatten();
        exits.filter(|exit| exit.left.from.is_some() && !exit.left.cancelled)
    }
}
