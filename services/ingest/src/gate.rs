//! Whether a release may be deployed to a lane, by all that is known now.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Actor, Step};
use ledger_domain::gate::{Decision, DeployAnswer, GateInput, PromotionEvidence, decide};
use ledger_domain::plan_issue::Revocations;
use ledger_domain::retirement::Standing;
use ledger_domain::rollback::Phase;
use ledger_domain::{Lane, LaneRef, Position, Release, ShortText, TargetName};
use ledger_projections::{AsOf, PolicyInForce, QueryError, Snapshot};

use crate::planning::UnknownLane;

/// What somebody wants to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateQuestion {
    /// Where; without a target, to every lane of the service.
    pub lane: LaneRef,
    /// What.
    pub release: Release,
    /// Who wants to; their own approval does not count.
    pub requester: Option<Actor>,
    /// The rollback that the deploy is a step of.
    pub rollback_id: Option<ShortText>,
    /// Whether the service may be one that was never deployed there.
    pub is_new: bool,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateAnswer {
    /// The position that it is true for.
    pub position: Position,
    /// The position of the policy that it was judged by.
    pub policy: Option<Position>,
    /// The release that was judged: with the artifact that its version means, where the question states none.
    pub release: Release,
    /// The position that says what the version means, where that was looked up.
    pub artifact_known_from: Option<Position>,
    /// The answer, and that of each rule.
    pub decision: Decision,
}

/// Why the gate does not answer.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The service, or the target, never was in the environment.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// There is no such environment, or the database does not answer.
    #[error(transparent)]
    Ask(#[from] QueryError),
}

impl From<ledger_projections::Error> for GateError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Ask(error.into())
    }
}

/// Returns true if a deploy is a step of a rollback that was started.
async fn is_step(
    snapshot: &mut Snapshot,
    rollback_id: &ShortText,
    lane: &LaneRef,
    release: &Release,
) -> Result<bool, GateError> {
    let Some(row) = snapshot.rollback(rollback_id).await? else { return Ok(false) };
    let is_started = row.phase == Phase::Started && row.request.rollback.environment == lane.environment;
    let is_it = |step: &Step| {
        let wanted = step.to.as_ref();
        step.service == lane.service
            && lane.target.as_ref().is_none_or(|target| *target == step.target)
            && wanted.is_some_and(|wanted| wanted.matches(release) || release.matches(wanted))
    };
    Ok(is_started && row.request.plan.steps.iter().any(is_it))
}

/// Asks the gate.
///
/// # Errors
/// The service or the target never was in the environment, and the question does not say that it is new; no event ever named the
/// environment; or the database does not answer.
pub async fn gate(
    snapshot: &mut Snapshot,
    question: &GateQuestion,
    now: DateTime<Utc>,
) -> Result<GateAnswer, GateError> {
    let GateQuestion { lane: named, requester, rollback_id, .. } = question;
    let environment = &named.environment;
    let position = snapshot.position();
    let present = snapshot.state(environment, AsOf::LATEST).await?.into_lanes();
    let known = snapshot.lanes_ever(environment).await?;
    if !question.is_new {
        UnknownLane::check(environment, &known, Some(&named.service), named.target.as_ref())?;
    }
    let (release, artifact_known_from) = completed(snapshot, named, &question.release, now).await?;
    let PolicyInForce { declared, policy } = snapshot.policy(environment, position).await?;
    let retired = match snapshot.retirements(environment, position).await?.last() {
        Standing::Retired(position) => Some(position),
        Standing::Open(_) => None,
    };
    let mut evidence = Vec::new();
    for former in policy.promotion.iter().flat_map(|promotion| &promotion.from) {
        let of_former = snapshot.policy(former, position).await?.policy;
        let targets = snapshot.promotion_evidence(former, &named.service, &release, &of_former, now).await?;
        evidence.push((former, of_former, targets));
    }
    let evidence: Vec<PromotionEvidence<'_>> = evidence
        .iter()
        .map(|(environment, policy, targets)| PromotionEvidence {
            environment,
            policy,
            targets: targets.clone(),
        })
        .collect();
    let freezes = snapshot.freezes(environment, now).await?;
    let active = snapshot.active_rollback(environment).await?;
    let is_step = match rollback_id {
        Some(rollback_id) => is_step(snapshot, rollback_id, named, &release).await?,
        None => false,
    };
    let active = active.filter(|(active, _)| !is_step || Some(active) != rollback_id.as_ref());
    let revoked = match &release.artifact {
        Some(artifact) => snapshot.revoked([artifact]).await?,
        None => snapshot.revoked_named(&named.service).await?,
    };
    let answers = answers(snapshot, named, &release).await?;
    let lanes = lanes(named, &present, &known);
    let mut of_lanes = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let rollbacks = snapshot.left_releases(&lane).await?;
        let first = rollbacks.iter().map(|left| left.requested);
        let first = first.chain(answers.iter().map(|answer| answer.answer.position)).min();
        let deploys = match first {
            Some(first) => snapshot.deploys_after(&lane, first).await?,
            None => Vec::new(),
        };
        of_lanes.push((lane, rollbacks, deploys));
    }
    let inputs: Vec<GateInput<'_>> = of_lanes
        .iter()
        .map(|(lane, rollbacks, deploys)| GateInput {
            lane,
            release: &release,
            requester: requester.as_ref(),
            now,
            policy: &policy,
            retired,
            freezes: &freezes,
            rollback: active.as_ref().map(|(rollback_id, position)| (rollback_id, *position)),
            revocations: Revocations { revoked: &revoked, meant: None },
            rollbacks,
            deploys,
            present: present.get(&(lane.service.clone(), lane.target.clone())),
            promotion: &evidence,
            answers: &answers,
        })
        .collect();
    let decision = decide(&inputs);
    Ok(GateAnswer { position, policy: declared, release, artifact_known_from, decision })
}

/// The release with the artifact that its version means, and the position that says so, where it states none.
async fn completed(
    snapshot: &mut Snapshot,
    lane: &LaneRef,
    release: &Release,
    at: DateTime<Utc>,
) -> Result<(Release, Option<Position>), ledger_projections::Error> {
    if release.artifact.is_some() {
        return Ok((release.clone(), None));
    }
    let meant = snapshot.artifact_meant(&lane.environment, &lane.service, &release.version, at).await?;
    Ok(match meant {
        Some((artifact, position)) => (release.completed(Some(artifact)), Some(position)),
        None => (release.clone(), None),
    })
}

/// People's answers to deploys of a version of the service, each with the artifact that the version meant when it was given.
async fn answers(
    snapshot: &mut Snapshot,
    named: &LaneRef,
    release: &Release,
) -> Result<Vec<DeployAnswer>, ledger_projections::Error> {
    let LaneRef { environment, service, .. } = named;
    let mut answers = Vec::new();
    for given in snapshot.answers_to_deploy(environment, service, &release.version).await? {
        let lane =
            LaneRef { environment: environment.clone(), service: service.clone(), target: given.target };
        let (release, _) = completed(snapshot, &lane, &given.release, given.occurred_at).await?;
        let (answer, occurred_at, expires_at) = (given.answer, given.occurred_at, given.expires_at);
        answers.push(DeployAnswer { answer, occurred_at, lane, release, expires_at });
    }
    Ok(answers)
}

/// The lanes that a question is about: the one at its target; else those of the service that hold anything, or all that it had.
fn lanes(
    named: &LaneRef,
    present: &ledger_domain::Lanes,
    known: &[(ledger_domain::ServiceName, TargetName)],
) -> Vec<Lane> {
    if let Some(target) = &named.target {
        return vec![named.at(target.clone())];
    }
    let holding =
        present.iter().filter(|((service, _), fold)| *service == named.service && fold.holds_anything());
    let mut targets: Vec<TargetName> = holding.map(|((_, target), _)| target.clone()).collect();
    if targets.is_empty() {
        let of_service = known.iter().filter(|(service, _)| *service == named.service);
        targets = of_service.map(|(_, target)| target.clone()).collect();
    }
    if targets.is_empty() {
        targets.push(TargetName::default());
    }
    targets.into_iter().map(|target| named.at(target)).collect()
}
