//! What kept a deploy to the environment from passing the gate, as far as it was fed: freezes, rollbacks and people's answers.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::environment::push_exactly;
use super::history::{EventTime, LaneHistory};
use super::interned::{Id, Releases, Table};
use crate::event::{Actor, Approval, ApprovalSubject, Event, Freeze, Payload, RollbackRequest};
use crate::gate::{Answer, DeployAnswer, HoldState, LeftRelease, SucceededDeploy, hold};
use crate::plan_issue::{ActiveFreeze, FreezeInterval};
use crate::rollback::Phase;
use crate::{EnvironmentName, LaneRef, Position, Release, ServiceName, ShortText, TargetName};

/// A lane of the environment.
type LaneKey = (ServiceName, TargetName);

/// One lane's step of a rollback.
#[derive(Debug)]
pub(super) struct ReleaseExit {
    pub(super) left: LeftRelease,
    /// When it was requested.
    pub(super) at: EventTime,
    /// The deploy that ended its hold.
    ended_by: Option<SucceededDeploy>,
}

impl ReleaseExit {
    /// It may hold a release.
    const fn may_hold(&self) -> bool {
        self.left.from.is_some() && !self.left.cancelled && self.ended_by.is_none()
    }

    /// Whether a deploy ends its hold, by the gate's own rule.
    fn is_ended_by(&self, deploy: &SucceededDeploy) -> bool {
        let Some(from) = &self.left.from else { return false };
        let left = LeftRelease { started: true, cancelled: false, ..self.left.clone() };
        hold(from, &[left], std::slice::from_ref(deploy), &[]) == HoldState::Free
    }
}

/// Where a rollback is, and the lanes of its plan.
#[derive(Debug)]
struct RollbackProgress {
    requested: Position,
    phase: Phase,
    lanes: Vec<LaneKey>,
}

/// All that is known of the environment besides what it ran.
#[derive(Debug, Default)]
pub(super) struct Rules {
    freezes: Vec<FreezeInterval>,
    rollbacks: HashMap<ShortText, RollbackProgress>,
    under_way: BTreeMap<Position, ShortText>,
    exits: HashMap<LaneKey, Vec<ReleaseExit>>,
    /// By service and version.
    answers: HashMap<(Id, Id), Vec<StatedAnswer>>,
    services: Table<ServiceName>,
    /// Versions, and types and names of actors.
    lines: Table<ShortText>,
    targets: Table<TargetName>,
}

/// An answer to a deploy, as it was stated.
#[derive(Debug)]
struct StatedAnswer {
    /// Type and name.
    actor: (Id, Id),
    granted: bool,
    at: EventTime,
    target: Option<Id>,
    release: Id,
    expires_at: Option<DateTime<Utc>>,
}

impl Rules {
    /// Applies what an event of the environment says of them.
    pub(super) fn apply(&mut self, event: &Event, at: EventTime, releases: &mut Releases) {
        match &event.payload {
            Payload::RollbackRequested(request) => self.request(request, at),
            Payload::RollbackStarted(it) => self.proceed(&it.rollback.rollback_id, Phase::Started, at),
            Payload::RollbackSucceeded(it) => self.proceed(&it.rollback_id, Phase::Succeeded, at),
            Payload::RollbackFailed(it) => self.proceed(&it.rollback_id, Phase::Failed, at),
            Payload::RollbackCancelled(it) => self.proceed(&it.rollback_id, Phase::Cancelled, at),
            Payload::ApprovalGranted(approval) => self.answer(event, approval, true, (at, releases)),
            Payload::ApprovalRejected(approval) => self.answer(event, approval, false, (at, releases)),
            Payload::FreezeStarted(Freeze { freeze_id, until, .. }) => self.freezes.push(FreezeInterval {
                freeze: ActiveFreeze { freeze_id: freeze_id.clone(), until: *until, position: at.position },
                started_at: at.occurred_at,
                lifted_at: None,
            }),
            Payload::FreezeLifted(Freeze { freeze_id, .. }) => {
                let lifted =
                    self.freezes.iter_mut().filter(|interval| interval.freeze.freeze_id == *freeze_id);
                for interval in lifted.filter(|interval| interval.lifted_at.is_none()) {
                    interval.lifted_at = Some(at.occurred_at);
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
            let left = LeftRelease {
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
        let progress = RollbackProgress { requested: at.position, phase: Phase::Requested, lanes };
        self.rollbacks.insert(rollback_id.clone(), progress);
        self.under_way.insert(at.position, rollback_id.clone());
    }

    fn proceed(&mut self, rollback_id: &ShortText, phase: Phase, at: EventTime) {
        let Some(progress) = self.rollbacks.get_mut(rollback_id) else { return };
        if !progress.phase.is_active() || phase == Phase::Started && progress.phase == Phase::Started {
            return;
        }
        progress.phase = phase;
        if !phase.is_active() {
            self.under_way.remove(&progress.requested);
        }
        for lane in &progress.lanes {
            let exits = self.exits.get_mut(lane).into_iter().flatten();
            for exit in exits.filter(|exit| exit.left.rollback_id == *rollback_id) {
                exit.left.started |= phase == Phase::Started;
                exit.left.cancelled |= phase == Phase::Cancelled;
                if !phase.is_active() {
                    exit.left.ended = Some(at.position);
                }
            }
        }
    }

    fn answer(
        &mut self,
        event: &Event,
        approval: &Approval,
        granted: bool,
        (at, releases): (EventTime, &mut Releases),
    ) {
        let (ApprovalSubject::Deploy { lane, release }, Some(actor)) = (&approval.subject, &event.actor)
        else {
            return;
        };
        let key = (self.services.id(&lane.service), self.lines.id(&release.version));
        let answer = StatedAnswer {
            actor: (self.lines.id(&actor.kind), self.lines.id(&actor.name)),
            granted,
            at,
            target: lane.target.as_ref().map(|target| self.targets.id(target)),
            release: releases.id(release),
            expires_at: approval.expires_at,
        };
        push_exactly(self.answers.entry(key).or_default(), answer);
    }

    /// Notes what a lane ran as a rollback was started, where that was acknowledged to be something else than the plan says.
    pub(super) fn started_from(&mut self, rollback_id: &ShortText, lane: &LaneKey, runs: Option<&Release>) {
        let exits = self.exits.get_mut(lane).into_iter().flatten();
        for exit in exits.filter(|exit| exit.left.rollback_id == *rollback_id && !exit.left.started) {
            exit.left.from = runs.cloned();
        }
    }

    /// Applies a deploy to a lane: it may end holds.
    pub(super) fn deployed(&mut self, lane: &LaneKey, deploy: &SucceededDeploy) {
        let exits = self.exits.get_mut(lane).into_iter().flatten();
        for exit in exits.filter(|exit| exit.may_hold() && exit.is_ended_by(deploy)) {
            exit.ended_by = Some(deploy.clone());
        }
    }

    /// Takes back a deploy of a corrected event: other deploys may have ended the holds that it ended.
    pub(super) fn take_back(&mut self, lane: &LaneKey, corrected: Position, history: &LaneHistory) {
        let by_it =
            |exit: &ReleaseExit| exit.ended_by.as_ref().is_some_and(|deploy| deploy.position == corrected);
        for exit in self.exits.get_mut(lane).into_iter().flatten().filter(|exit| by_it(exit)) {
            let after = history.succeeded_after(exit.left.requested);
            exit.ended_by = after.into_iter().find(|deploy| exit.is_ended_by(deploy));
        }
    }

    /// The freezes that hold at a time.
    pub(super) fn freezes(&self, time: DateTime<Utc>) -> Vec<ActiveFreeze> {
        let holding = self.freezes.iter().filter(|interval| interval.holds_at(time));
        holding.map(|interval| interval.freeze.clone()).collect()
    }

    /// The rollback that is under way, and the position of its request.
    pub(super) fn under_way(&self) -> Option<(&ShortText, Position)> {
        self.under_way.last_key_value().map(|(position, rollback_id)| (rollback_id, *position))
    }

    /// The rollbacks of a lane, from the first on that may hold a release, and the deploys that ended holds of them.
    pub(super) fn rollbacks(&self, lane: &LaneKey) -> (Vec<LeftRelease>, Vec<SucceededDeploy>) {
        let exits = self.exits.get(lane).map_or(&[][..], Vec::as_slice);
        let first = exits.iter().position(ReleaseExit::may_hold).unwrap_or(exits.len());
        let exits = &exits[first..];
        let enders = exits.iter().filter_map(|exit| exit.ended_by.clone());
        (exits.iter().map(|exit| exit.left.clone()).collect(), enders.collect())
    }

    /// People's answers to deploys of a version of a service, each with the release as it was stated.
    pub(super) fn answers(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        releases: &Releases,
    ) -> Vec<DeployAnswer> {
        let key = self.services.find(service).zip(self.lines.find(version));
        let stated = key.and_then(|key| self.answers.get(&key)).into_iter().flatten();
        let answers = stated.map(|stated| DeployAnswer {
            answer: Answer {
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
        answers.collect()
    }

    fn actor(&self, stated: &StatedAnswer) -> Actor {
        let [kind, name] = [stated.actor.0, stated.actor.1].map(|id| self.lines.get(id).clone());
        Actor { kind, name }
    }

    /// The rollbacks that were to take a lane away from what it ran, and were not cancelled.
    pub(super) fn exits(&self, lane: &LaneKey) -> impl Iterator<Item = &ReleaseExit> {
        let exits = self.exits.get(lane).into_iter().flatten();
        exits.filter(|exit| exit.left.from.is_some() && !exit.left.cancelled)
    }
}
