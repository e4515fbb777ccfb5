//! A judge of the demo: refuses, by a panic, an event that may not follow those before it. The rules are the
//! domain's; what is written here is only what they are asked about.

use std::collections::{BTreeMap, BTreeSet};

use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, ApprovalSubject, Deploy, Payload, Plan, Policy, ReleasePointId, Rollback, RollbackRequest,
};
use ledger_domain::gate::Answer;
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{
    ActiveFreeze, DeployOutcome, IrreversibleDeploy, PlanContext, Revocations, RevokedArtifact, issues,
};
use ledger_domain::rollback::{Phase, RollbackState, TransitionError, differing, start};
use ledger_domain::{
    Composition, EnvironmentName, LaneRef, Lanes, LiveRelease, Position, Removals, ShortText, Since,
    TargetName, TrackEntry,
};

#[derive(Default)]
pub(super) struct Judge {
    /// The last event's.
    position: Position,
    environments: BTreeMap<EnvironmentName, Environment>,
    rollback_ids: BTreeSet<ShortText>,
    revoked: Vec<RevokedArtifact>,
    pub(super) rolled_back: usize,
    pub(super) rollbacks_approved: usize,
}

#[derive(Default)]
struct Environment {
    lanes: Lanes,
    /// What it runs, from each position on at which that became another, and the change that made it so.
    compositions: BTreeMap<Position, (Since, Composition)>,
    policy: Policy,
    declared: Option<Position>,
    irreversible: Vec<IrreversibleDeploy>,
    freezes: Vec<ActiveFreeze>,
    marks: BTreeSet<Position>,
    /// The last rollback.
    rollback: Option<UnderWay>,
}

struct UnderWay {
    request: RollbackRequest,
    phase: Phase,
    answers: Vec<Answer>,
    /// How many reports of its steps there were.
    reported: usize,
}

impl UnderWay {
    fn life(&self, approvals: u32) -> RollbackState<'_> {
        let Self { request, phase, answers, .. } = self;
        RollbackState { phase: *phase, initiated_by: &request.initiated_by, approvals, answers }
    }
}

impl Environment {
    fn point(&self, position: Position) -> Option<&(Since, Composition)> {
        self.compositions.range(..=position).next_back().map(|(_, point)| point)
    }

    fn at(&self, position: Position) -> Composition {
        self.point(position).map(|(_, runs)| runs.clone()).unwrap_or_default()
    }

    fn changed_at(&self) -> Position {
        self.compositions.keys().next_back().copied().unwrap_or_default()
    }

    fn active(&self) -> Option<&UnderWay> {
        self.rollback.as_ref().filter(|rollback| rollback.phase.is_active())
    }

    /// The rollback of this name, and the approvals that it needs.
    fn rollback(&mut self, rollback_id: &ShortText) -> (&mut UnderWay, u32) {
        let rollback = self.rollback.as_mut().expect("a rollback was requested");
        assert_eq!(&rollback.request.rollback.rollback_id, rollback_id);
        (rollback, self.policy.approvals)
    }
}

impl Judge {
    /// Judges an event by those before it, and takes it into account.
    pub(super) fn hear(&mut self, envelope: &Envelope) {
        let (before, payload) = (self.position, &envelope.event().payload);
        self.position = before.next();
        let here = self.position;
        if let Payload::ArtifactRevoked(it) = payload {
            let (artifact, deleted) = (it.artifact.clone(), it.deleted);
            self.revoked.push(RevokedArtifact { artifact, deleted, position: here });
        }
        let Some(name) = payload.environment() else { return };
        let environment = self.environments.entry(name.clone()).or_default();
        let actor = envelope.event().actor.as_ref();
        match payload {
            Payload::EnvironmentDeclared(_, policy) => {
                assert_eq!(policy.circular_dependency(), None, "at {here}");
                (environment.policy, environment.declared) = (policy.clone(), Some(here));
            }
            Payload::RollbackRequested(request) => {
                let id = request.rollback.rollback_id.clone();
                assert!(self.rollback_ids.insert(id), "at {here}: a name is used twice");
                requested(environment, request, before, &self.revoked);
            }
            Payload::RollbackSucceeded(_) => {
                self.rolled_back += 1;
                goes_on(environment, &self.revoked, payload)
                    .unwrap_or_else(|refused| panic!("at {here}: {refused}"));
            }
            Payload::RollbackStarted(_) | Payload::RollbackFailed(_) | Payload::RollbackCancelled(_) => {
                goes_on(environment, &self.revoked, payload)
                    .unwrap_or_else(|refused| panic!("at {here}: {refused}"));
            }
            Payload::ApprovalGranted(approval) | Payload::ApprovalRejected(approval) => {
                let actor = actor.expect("somebody answers");
                let granted = matches!(payload, Payload::ApprovalGranted(_));
                let answer = Answer { actor: actor.clone(), granted, position: here };
                self.rollbacks_approved += usize::from(answered(environment, &approval.subject, answer));
            }
            Payload::ReleasePointMarked(mark) => marked(environment, &mark.point, before, actor),
            Payload::ReleasePointRevoked(point) => {
                assert!(environment.marks.remove(&point.position), "at {here}: no mark stands there");
            }
            Payload::FreezeStarted(it) => {
                let same = |freeze: &ActiveFreeze| freeze.freeze_id == it.freeze_id;
                assert!(!environment.freezes.iter().any(same), "at {here}: it holds already");
                let (freeze_id, until) = (it.freeze_id.clone(), it.until);
                environment.freezes.push(ActiveFreeze { freeze_id, until, position: here });
            }
            Payload::FreezeLifted(it) => {
                let active = environment.freezes.len();
                environment.freezes.retain(|freeze| freeze.freeze_id != it.freeze_id);
                assert_eq!(environment.freezes.len() + 1, active, "at {here}: one freeze is lifted");
            }
            _ => {
                let occurred_at = envelope.occurred_at();
                let event_id = envelope.identity().id.clone();
                changed(environment, payload, Since { occurred_at, position: here, event_id });
            }
        }
    }
}

fn requested(
    environment: &mut Environment,
    request: &RollbackRequest,
    now: Position,
    revoked: &[RevokedArtifact],
) {
    assert!(environment.active().is_none(), "after {now}: another is under way");
    let from = request.plan.from;
    assert!(from <= now && environment.changed_at() <= from && request.to <= from, "after {now}");
    assert_eq!(request.source, None, "the demo goes back to points of the same environment");
    let wanted = environment.at(request.to);
    let Environment { lanes, policy, .. } = &*environment;
    let plan = Plan::make(from, lanes, &wanted, &request.scope, policy, Removals::All);
    assert_eq!(request.plan, plan, "after {now}");
    assert_eq!(request.plan_digest.as_str(), plan.digest(), "after {now}");
    assert_eq!(request.policy, environment.declared, "after {now}");
    assert_eq!(
        (request.automatic, request.cause),
        (false, None),
        "after {now}: the ledger's own controller asks by itself"
    );
    let way = PlanContext {
        source: None,
        retired: None,
        last_ran: std::collections::BTreeMap::new(),
        began: environment.point(request.to).map(|(since, _)| since),
        status: Some(Status::Candidate),
        policy,
        irreversible: &environment.irreversible,
        open: &[],
        revocations: Revocations { revoked, meant: None },
        freezes: &environment.freezes,
    };
    for issue in issues(&plan, &way) {
        let passes = issue.severity(policy).lets_pass(request.force);
        assert!(passes, "after {now}: {issue}");
    }
    environment.rollback = Some(UnderWay {
        request: request.clone(),
        phase: Phase::Requested,
        answers: Vec::new(),
        reported: 0,
    });
}

fn goes_on(
    environment: &mut Environment,
    revoked: &[RevokedArtifact],
    payload: &Payload,
) -> Result<(), TransitionError> {
    let (it, acknowledge) = match payload {
        Payload::RollbackStarted(it) => (&it.rollback, it.acknowledge.clone()),
        Payload::RollbackSucceeded(it) | Payload::RollbackFailed(it) | Payload::RollbackCancelled(it) => {
            (it, BTreeSet::new())
        }
        _ => return Ok(()),
    };
    let Rollback { environment: name, rollback_id } = it;
    let (rollback, approvals) = environment.rollback(rollback_id);
    let phase = match payload {
        Payload::RollbackStarted(_) => rollback.life(approvals).start().map(|()| Phase::Started)?,
        Payload::RollbackSucceeded(_) => Phase::Succeeded,
        Payload::RollbackFailed(_) => rollback.life(approvals).fail().map(|()| Phase::Failed)?,
        _ => rollback.life(approvals).cancel().map(|()| Phase::Cancelled)?,
    };
    let plan = rollback.request.plan.clone();
    match phase {
        Phase::Started => {
            let revocations = Revocations { revoked, meant: None };
            assert_eq!(start(&plan, &environment.lanes, revocations, &acknowledge), Vec::new());
        }
        Phase::Succeeded => {
            let differing = differing(&plan, &environment.lanes);
            let (rollback, approvals) = environment.rollback(rollback_id);
            rollback.life(approvals).succeed(differing)?;
            let reports = plan.steps.iter().map(|step| step.reports(name, None, None).len()).sum::<usize>();
            assert_eq!(rollback.reported, reports, "every step was carried out");
        }
        Phase::Requested | Phase::Failed | Phase::Cancelled => {}
    }
    environment.rollback(rollback_id).0.phase = phase;
    Ok(())
}

/// Whether a rollback was approved.
fn answered(environment: &mut Environment, subject: &ApprovalSubject, answer: Answer) -> bool {
    let ApprovalSubject::Rollback { rollback_id, .. } = subject else { return false };
    let (rollback, approvals) = environment.rollback(rollback_id);
    assert_eq!(rollback.life(approvals).answer(&answer.actor), Ok(()), "at {}", answer.position);
    let granted = answer.granted;
    rollback.answers.push(answer);
    granted
}

fn marked(environment: &mut Environment, point: &ReleasePointId, now: Position, actor: Option<&Actor>) {
    assert!(point.position <= now && actor.is_some(), "after {now}");
    assert!(environment.at(point.position).lanes().next().is_some(), "after {now}: nothing runs there");
    environment.marks.insert(point.position);
}

/// While a rollback is under way, its steps are what changes the environment, in their order.
fn changed(environment: &mut Environment, payload: &Payload, since: Since) {
    let position = since.position;
    match payload {
        Payload::DeploySucceeded(it) => ended(environment, it, DeployOutcome::Succeeded, &since),
        Payload::DeployFailed(it) => ended(environment, it, DeployOutcome::Failed, &since),
        _ => {}
    }
    let Some((lane, track, effect)) = payload.change() else { return };
    match environment.rollback.as_mut().filter(|rollback| rollback.phase.is_active()) {
        Some(rollback) => {
            assert_eq!(rollback.phase, Phase::Started, "at {position}");
            let id = Some(&rollback.request.rollback.rollback_id);
            let steps = rollback.request.plan.steps.iter();
            let mut reports =
                steps.flat_map(|step| step.reports(&lane.environment, payload.deployment(), id));
            assert_eq!(reports.nth(rollback.reported).as_ref(), Some(payload), "at {position}");
            rollback.reported += 1;
        }
        None => assert_eq!(payload.rollback_id(), None, "at {position}: no rollback is under way"),
    }
    let key = (lane.service.clone(), target(lane));
    let lane = environment.lanes.entry(key.clone()).or_default();
    if lane.apply(&track, TrackEntry { effect, since: since.clone() }).altered {
        let live = lane.live().map(LiveRelease::to_owned);
        let mut runs = environment.at(environment.changed_at());
        runs.set(key.0, key.1, live);
        environment.compositions.insert(position, (since, runs));
    }
}

/// Keeps a deploy that ended and cannot be undone.
fn ended(environment: &mut Environment, deploy: &Deploy, outcome: DeployOutcome, since: &Since) {
    if deploy.reversible {
        return;
    }
    environment.irreversible.push(IrreversibleDeploy {
        service: deploy.lane.service.clone(),
        target: target(&deploy.lane),
        version: deploy.release.version.clone(),
        occurred_at: since.occurred_at,
        position: since.position,
        outcome,
    });
}

/// The demo names a target where a service has several.
fn target(lane: &LaneRef) -> TargetName {
    lane.target.clone().unwrap_or_default()
}
