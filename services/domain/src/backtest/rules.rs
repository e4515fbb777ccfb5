//! What kept a deploy to the environment from passing the gate, as far as it was told: freezes, rollbacks,
//! releases that are held, and people's answers.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::history::Moment;
use crate::event::{ApprovalSubject, Event, Fact, Freeze, RollbackRequest};
use crate::gate::{Answer, Hold};
use crate::obstacle::ActiveFreeze;
use crate::rollback::Phase;
use crate::{Line, Position, Release, ServiceName, TargetName};

/// A freeze, as far as it is known.
#[derive(Debug)]
struct Frozen {
    freeze: ActiveFreeze,
    since: DateTime<Utc>,
    lifted_at: Option<DateTime<Utc>>,
}

/// A rollback's request to bring a lane away from a release.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) hold: Hold,
    pub(super) release: Release,
    pub(super) at: Moment,
    /// No other version was deployed since.
    is_last: bool,
}

/// What people and rollbacks say of one lane.
#[derive(Debug, Default)]
struct LaneRules {
    leaving: Vec<Leaving>,
    /// Answers by version, each with the release as it was told.
    answers: HashMap<Line, Vec<(Release, Answer)>>,
}

/// Where a rollback is, and whether it was ever started.
#[derive(Debug)]
struct Going {
    requested: Position,
    phase: Phase,
    started: bool,
}

/// All that is known of the environment besides what it ran.
#[derive(Debug, Default)]
pub(super) struct Rules {
    freezes: Vec<Frozen>,
    rollbacks: HashMap<Line, Going>,
    under_way: BTreeMap<Position, Line>,
    lanes: HashMap<(ServiceName, TargetName), LaneRules>,
}

impl Rules {
    /// Takes down what an event of the environment says of them.
    pub(super) fn hear(&mut self, event: &Event, at: Moment) {
        match &event.fact {
            Fact::DeploySucceeded(deploy) if deploy.rollback_id.is_none() => {
                let lane = (deploy.lane.service.clone(), deploy.lane.target.clone().unwrap_or_default());
                for leaving in self.lanes.get_mut(&lane).into_iter().flat_map(|lane| &mut lane.leaving) {
                    leaving.is_last &= leaving.release.version == deploy.release.version;
                }
            }
            Fact::RollbackRequested(request) => self.request(request, at),
            Fact::RollbackStarted(it) => {
                if let Some(going) = self.rollbacks.get_mut(&it.rollback.rollback_id)
                    && going.phase == Phase::Requested
                {
                    going.phase = Phase::Started;
                    going.started = true;
                }
            }
            Fact::RollbackSucceeded(it) => self.end(&it.rollback_id, Phase::Succeeded),
            Fact::RollbackFailed(it) => self.end(&it.rollback_id, Phase::Failed),
            Fact::RollbackCancelled(it) => self.end(&it.rollback_id, Phase::Cancelled),
            Fact::ApprovalGranted(approval) => self.answer(event, &approval.subject, true, at),
            Fact::ApprovalRejected(approval) => self.answer(event, &approval.subject, false, at),
            Fact::FreezeStarted(Freeze { freeze_id, until, .. }) => self.freezes.push(Frozen {
                freeze: ActiveFreeze { freeze_id: freeze_id.clone(), until: *until, position: at.position },
                since: at.occurred_at,
                lifted_at: None,
            }),
            Fact::FreezeLifted(Freeze { freeze_id, .. }) => {
                let lifted = self.freezes.iter_mut().filter(|frozen| frozen.freeze.freeze_id == *freeze_id);
                for frozen in lifted.filter(|frozen| frozen.lifted_at.is_none()) {
                    frozen.lifted_at = Some(at.occurred_at);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, request: &RollbackRequest, at: Moment) {
        let rollback_id = &request.rollback.rollback_id;
        if self.rollbacks.contains_key(rollback_id) {
            return;
        }
        let going = Going { requested: at.position, phase: Phase::Requested, started: false };
        self.rollbacks.insert(rollback_id.clone(), going);
        self.under_way.insert(at.position, rollback_id.clone());
        for step in &request.plan.steps {
            if let Some(release) = step.from.clone() {
                let lane = self.lanes.entry((step.service.clone(), step.target.clone())).or_default();
                let hold = Hold { rollback_id: rollback_id.clone(), position: at.position };
                lane.leaving.push(Leaving { hold, release, at, is_last: true });
            }
        }
    }

    fn end(&mut self, rollback_id: &Line, phase: Phase) {
        if let Some(going) = self.rollbacks.get_mut(rollback_id)
            && going.phase.is_active()
        {
            going.phase = phase;
            self.under_way.remove(&going.requested);
        }
    }

    fn answer(&mut self, event: &Event, subject: &ApprovalSubject, granted: bool, at: Moment) {
        let (ApprovalSubject::Deploy { lane, release }, Some(actor)) = (subject, &event.actor) else {
            return;
        };
        let lane =
            self.lanes.entry((lane.service.clone(), lane.target.clone().unwrap_or_default())).or_default();
        let answer = Answer { actor: actor.clone(), granted, position: at.position };
        lane.answers.entry(release.version.clone()).or_default().push((release.clone(), answer));
    }

    /// The freezes that held at a time.
    pub(super) fn freezes(&self, at: DateTime<Utc>) -> Vec<ActiveFreeze> {
        let held = |end: Option<DateTime<Utc>>| end.is_none_or(|end| at < end);
        let frozen = self
            .freezes
            .iter()
            .filter(|frozen| frozen.since <= at && held(frozen.freeze.until) && held(frozen.lifted_at));
        frozen.map(|frozen| frozen.freeze.clone()).collect()
    }

    /// The rollback that is under way, and the position of its request.
    pub(super) fn under_way(&self) -> Option<(&Line, Position)> {
        self.under_way.last_key_value().map(|(position, rollback_id)| (rollback_id, *position))
    }

    /// The last rollback that brought a lane away from a release, unless another one was deployed since.
    pub(super) fn hold(&self, lane: &(ServiceName, TargetName), release: &Release) -> Option<&Hold> {
        let mut leaving = self.lanes.get(lane)?.leaving.iter().rev();
        let last = leaving.find(|leaving| {
            let going = self.rollbacks.get(&leaving.hold.rollback_id);
            let was_left = going.is_some_and(|going| going.started && going.phase != Phase::Cancelled);
            was_left && leaving.is_last && is_same(&leaving.release, release)
        });
        last.map(|leaving| &leaving.hold)
    }

    /// People's answers to a deploy.
    pub(super) fn answers(&self, lane: &(ServiceName, TargetName), release: &Release) -> Vec<Answer> {
        let answers = self.lanes.get(lane).and_then(|lane| lane.answers.get(&release.version));
        let answers = answers.into_iter().flatten().filter(|(told, _)| release.is_meant_by(told));
        answers.map(|(_, answer)| answer.clone()).collect()
    }

    /// The rollbacks that were to take a lane away from what it ran, and were not cancelled.
    pub(super) fn leaving(&self, lane: &(ServiceName, TargetName)) -> impl Iterator<Item = &Leaving> {
        let leaving = self.lanes.get(lane).into_iter().flat_map(|lane| &lane.leaving);
        leaving.filter(|leaving| {
            self.rollbacks.get(&leaving.hold.rollback_id).is_some_and(|going| going.phase != Phase::Cancelled)
        })
    }
}

/// The same version with the same artifact, as far as both are known.
fn is_same(one: &Release, other: &Release) -> bool {
    let differ = matches!((&one.artifact, &other.artifact), (Some(one), Some(other)) if one != other);
    one.version == other.version && !differ
}
