//! Checks a history: panics at an event that may not follow the events before it. The rules are those of the
//! domain; this module only keeps the state that they need.

use std::collections::{BTreeMap, BTreeSet};

use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, ApprovalSubject, Deploy, Payload, Plan, Policy, ReleasePointId, Rollback, RollbackRequest,
};
use ledger_domain::gate::ApprovalVote;
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{
    ActiveFreeze, DeployOutcome, IrreversibleDeploy, PlanContext, Revocations, RevokedArtifact, issues,
};
use ledger_domain::rollback::{RollbackPhase, RollbackState, TransitionError, differing, start};
use ledger_domain::{
    Composition, EnvironmentName, EventRef, LaneRef, Lanes, LiveRelease, Position, Removals, ShortText,
    TargetName, TrackEntry,
};

#[derive(Default)]
pub(super) struct HistoryChecker {
    /// The position of the last event.
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
    /// The composition from each position at which it changed, and the change.
    compositions: BTreeMap<Position, (EventRef, Composition)>,
    policy: Policy,
    declared: Option<Position>,
    irreversible: Vec<IrreversibleDeploy>,
    freezes: Vec<ActiveFreeze>,
    marks: BTreeSet<Position>,
    /// The latest rollback.
    rollback: Option<RollbackProgress>,
}

struct RollbackProgress {
    request: RollbackRequest,
    phase: RollbackPhase,
    votes: Vec<ApprovalVote>,
    /// Number of reported steps.
    reported: usize,
}

impl RollbackProgress {
    fn state(&self, approvals: u32) -> RollbackState<'_> {
        let Self { request, phase, votes, .. } = self;
        RollbackState { phase: *phase, initiated_by: &request.initiated_by, approvals, votes }
    }
}

impl Environment {
    fn point_at(&self, position: Position) -> Option<&(EventRef, Composition)> {
        self.compositions.range(..=position).next_back().map(|(_, point)| point)
    }

    fn composition_at(&self, position: Position) -> Composition {
        self.point_at(position).map(|(_, composition)| composition.clone()).unwrap_or_default()
    }

    fn changed_at(&self) -> Position {
        self.compositions.keys().next_back().copied().unwrap_or_default()
    }

    fn active_rollback(&self) -> Option<&RollbackProgress> {
        self.rollback.as_ref().filter(|rollback| rollback.phase.is_active())
    }

    /// Returns the rollback with this id, and the number of approvals that it needs.
    fn rollback(&mut self, rollback_id: &ShortText) -> (&mut RollbackProgress, u32) {
        let rollback = self.rollback.as_mut().expect("a rollback was requested");
        assert_eq!(&rollback.request.rollback.rollback_id, rollback_id);
        (rollback, self.policy.approvals)
    }
}

impl HistoryChecker {
    /// Checks an event against the state, and applies it.
    pub(super) fn apply(&mut self, envelope: &Envelope) {
        let (before, payload) = (self.position, &envelope.event().payload);
        self.position = before.next();
        let here = self.position;
        if let Payload::ArtifactRevoked(revocation) = payload {
            let (artifact, deleted) = (revocation.artifact.clone(), revocation.deleted);
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
                assert!(self.rollback_ids.insert(id), "at {here}: the id is used twice");
                check_request(environment, request, before, &self.revoked);
            }
            Payload::RollbackSucceeded(_) => {
                self.rolled_back += 1;
                check_transition(environment, &self.revoked, payload)
                    .unwrap_or_else(|error| panic!("at {here}: {error}"));
            }
            Payload::RollbackStarted(_) | Payload::RollbackFailed(_) | Payload::RollbackCancelled(_) => {
                check_transition(environment, &self.revoked, payload)
                    .unwrap_or_else(|error| panic!("at {here}: {error}"));
            }
            Payload::ApprovalGranted(approval) | Payload::ApprovalRejected(approval) => {
                let actor = actor.expect("a vote has an actor");
                let granted = matches!(payload, Payload::ApprovalGranted(_));
                let vote = ApprovalVote { actor: actor.clone(), granted, position: here };
                self.rollbacks_approved += usize::from(apply_vote(environment, &approval.subject, vote));
            }
            Payload::ReleasePointMarked(mark) => apply_mark(environment, &mark.point, before, actor),
            Payload::ReleasePointRevoked(point) => {
                assert!(environment.marks.remove(&point.position), "at {here}: the point is not marked");
            }
            Payload::FreezeStarted(started) => {
                let same = |freeze: &ActiveFreeze| freeze.freeze_id == started.freeze_id;
                assert!(!environment.freezes.iter().any(same), "at {here}: the freeze is already active");
                let (freeze_id, until) = (started.freeze_id.clone(), started.until);
                environment.freezes.push(ActiveFreeze { freeze_id, until, position: here });
            }
            Payload::FreezeLifted(lifted) => {
                let active = environment.freezes.len();
                environment.freezes.retain(|freeze| freeze.freeze_id != lifted.freeze_id);
                assert_eq!(environment.freezes.len() + 1, active, "at {here}: exactly one freeze is lifted");
            }
            _ => {
                let occurred_at = envelope.occurred_at();
                let event_id = envelope.identity().id.clone();
                apply_change(environment, payload, EventRef { occurred_at, position: here, event_id });
            }
        }
    }
}

fn check_request(
    environment: &mut Environment,
    request: &RollbackRequest,
    now: Position,
    revoked: &[RevokedArtifact],
) {
    assert!(environment.active_rollback().is_none(), "after {now}: another rollback is active");
    let from = request.plan.from;
    assert!(from <= now && environment.changed_at() <= from && request.to <= from, "after {now}");
    assert_eq!(request.source, None, "the demo rolls back to points of the same environment");
    let wanted = environment.composition_at(request.to);
    let Environment { lanes, policy, .. } = &*environment;
    let plan = Plan::make(from, lanes, &wanted, &request.scope, policy, Removals::All);
    assert_eq!(request.plan, plan, "after {now}");
    assert_eq!(request.plan_digest.as_str(), plan.digest(), "after {now}");
    assert_eq!(request.policy, environment.declared, "after {now}");
    assert_eq!(
        (request.automatic, request.cause),
        (false, None),
        "after {now}: only the ledger's own controller requests automatic rollbacks"
    );
    let context = PlanContext {
        source: None,
        retired: None,
        last_ran: std::collections::BTreeMap::new(),
        began: environment.point_at(request.to).map(|(since, _)| since),
        status: Some(Status::Candidate),
        policy,
        irreversible: &environment.irreversible,
        open: &[],
        revocations: Revocations { revoked, version_artifacts: None },
        freezes: &environment.freezes,
    };
    for issue in issues(&plan, &context) {
        let passes = issue.severity(policy).permits(request.force);
        assert!(passes, "after {now}: {issue}");
    }
    environment.rollback = Some(RollbackProgress {
        request: request.clone(),
        phase: RollbackPhase::Requested,
        votes: Vec::new(),
        reported: 0,
    });
}

fn check_transition(
    environment: &mut Environment,
    revoked: &[RevokedArtifact],
    payload: &Payload,
) -> Result<(), TransitionError> {
    let (rollback, acknowledge) = match payload {
        Payload::RollbackStarted(start) => (&start.rollback, start.acknowledge.clone()),
        Payload::RollbackSucceeded(rollback)
        | Payload::RollbackFailed(rollback)
        | Payload::RollbackCancelled(rollback) => (rollback, BTreeSet::new()),
        _ => return Ok(()),
    };
    let Rollback { environment: name, rollback_id } = rollback;
    let (rollback, approvals) = environment.rollback(rollback_id);
    let phase = match payload {
        Payload::RollbackStarted(_) => rollback.state(approvals).start().map(|()| RollbackPhase::Started)?,
        Payload::RollbackSucceeded(_) => RollbackPhase::Succeeded,
        Payload::RollbackFailed(_) => rollback.state(approvals).fail().map(|()| RollbackPhase::Failed)?,
        _ => rollback.state(approvals).cancel().map(|()| RollbackPhase::Cancelled)?,
    };
    let plan = rollback.request.plan.clone();
    match phase {
        RollbackPhase::Started => {
            let revocations = Revocations { revoked, version_artifacts: None };
            assert_eq!(start(&plan, &environment.lanes, revocations, &acknowledge), Vec::new());
        }
        RollbackPhase::Succeeded => {
            let differing = differing(&plan, &environment.lanes);
            let (rollback, approvals) = environment.rollback(rollback_id);
            rollback.state(approvals).succeed(differing)?;
            let reports = plan.steps.iter().map(|step| step.reports(name, None, None).len()).sum::<usize>();
            assert_eq!(rollback.reported, reports, "every step was executed");
        }
        RollbackPhase::Requested | RollbackPhase::Failed | RollbackPhase::Cancelled => {}
    }
    environment.rollback(rollback_id).0.phase = phase;
    Ok(())
}

/// Applies a vote; returns true if it approves a rollback.
fn apply_vote(environment: &mut Environment, subject: &ApprovalSubject, vote: ApprovalVote) -> bool {
    let ApprovalSubject::Rollback { rollback_id, .. } = subject else { return false };
    let (rollback, approvals) = environment.rollback(rollback_id);
    assert_eq!(rollback.state(approvals).answer(&vote.actor), Ok(()), "at {}", vote.position);
    let granted = vote.granted;
    rollback.votes.push(vote);
    granted
}

fn apply_mark(environment: &mut Environment, point: &ReleasePointId, now: Position, actor: Option<&Actor>) {
    assert!(point.position <= now && actor.is_some(), "after {now}");
    assert!(
        environment.composition_at(point.position).lanes().next().is_some(),
        "after {now}: nothing runs there"
    );
    environment.marks.insert(point.position);
}

/// Applies a change of the lanes. While a rollback is active, only its steps may change the environment, in
/// order.
fn apply_change(environment: &mut Environment, payload: &Payload, since: EventRef) {
    let position = since.position;
    match payload {
        Payload::DeploySucceeded(deploy) => {
            store_irreversible(environment, deploy, DeployOutcome::Succeeded, &since);
        }
        Payload::DeployFailed(deploy) => {
            store_irreversible(environment, deploy, DeployOutcome::Failed, &since);
        }
        _ => {}
    }
    let Some((lane, track, effect)) = payload.change() else { return };
    match environment.rollback.as_mut().filter(|rollback| rollback.phase.is_active()) {
        Some(rollback) => {
            assert_eq!(rollback.phase, RollbackPhase::Started, "at {position}");
            let id = Some(&rollback.request.rollback.rollback_id);
            let steps = rollback.request.plan.steps.iter();
            let mut reports =
                steps.flat_map(|step| step.reports(&lane.environment, payload.deployment(), id));
            assert_eq!(reports.nth(rollback.reported).as_ref(), Some(payload), "at {position}");
            rollback.reported += 1;
        }
        None => assert_eq!(payload.rollback_id(), None, "at {position}: no rollback is active"),
    }
    let key = (lane.service.clone(), target(lane));
    let lane = environment.lanes.entry(key.clone()).or_default();
    if lane.apply(&track, TrackEntry { effect, since: since.clone() }).altered {
        let live = lane.live().map(LiveRelease::to_owned);
        let mut composition = environment.composition_at(environment.changed_at());
        composition.set(key.0, key.1, live);
        environment.compositions.insert(position, (since, composition));
    }
}

/// Stores a finished deploy that is irreversible.
fn store_irreversible(
    environment: &mut Environment,
    deploy: &Deploy,
    outcome: DeployOutcome,
    since: &EventRef,
) {
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

/// Returns the target; the demo names it for every service that has several.
fn target(lane: &LaneRef) -> TargetName {
    lane.target.clone().unwrap_or_default()
}
