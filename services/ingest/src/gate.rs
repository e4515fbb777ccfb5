//! The gate: decides if a release may be deployed to a lane, in the state of a snapshot.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Actor, Policy, Step};
use ledger_domain::gate::{
    Decision, DeployVote, GateInput, PromotionEvidence, RolledBackRelease, SucceededDeploy, TargetEvidence,
    decide,
};
use ledger_domain::plan_issue::Revocations;
use ledger_domain::retirement::RetirementStatus;
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{
    EnvironmentName, EventTime, Lane, LaneRef, Lanes, Position, Release, ServiceName, ShortText,
};
use ledger_projections::{AsOf, KnownEventTime, PolicyInForce, QueryError, Snapshot, StatedDeployVote};

use crate::planning::UnknownLane;

/// A deploy that the gate decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateQuery {
    /// Lane to deploy to; without a target, every lane of the service.
    pub lane: LaneRef,
    /// Release to deploy.
    pub release: Release,
    /// Requester. The requester's own approval does not count.
    pub requester: Option<Actor>,
    /// Rollback that the deploy is a step of.
    pub rollback_id: Option<ShortText>,
    /// True if the service may be one that was never deployed there.
    pub is_new: bool,
}

/// Decision of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateDecision {
    /// Position of the snapshot.
    pub position: Position,
    /// Position of the policy in force.
    pub policy: Option<Position>,
    /// Release that was decided on; if the question names no artifact, with the one that its version means.
    pub release: Release,
    /// Position of the event that ties the version to the artifact, if the artifact was looked up.
    pub artifact_known_from: Option<Position>,
    /// Overall decision, and the finding of each rule.
    pub decision: Decision,
}

/// Reason why the gate cannot decide.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The service or target has never been in the environment.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// The environment does not exist, or the query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl From<ledger_projections::Error> for GateError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Query(error.into())
    }
}

/// Returns true if a deploy is a step of a rollback that has started.
async fn is_rollback_step(
    snapshot: &mut Snapshot,
    rollback_id: &ShortText,
    lane: &LaneRef,
    release: &Release,
) -> Result<bool, GateError> {
    let Some(row) = snapshot.rollback(rollback_id).await? else { return Ok(false) };
    let is_started =
        row.phase == RollbackPhase::Started && row.request.rollback.environment == lane.environment;
    let matches_deploy = |step: &Step| {
        let wanted = step.to.as_ref();
        step.service == lane.service
            && lane.target.as_ref().is_none_or(|target| *target == step.target)
            && wanted.is_some_and(|wanted| wanted.either_matches(release))
    };
    Ok(is_started && row.request.plan.steps.iter().any(matches_deploy))
}

/// Decides a question in the state of a snapshot.
///
/// # Errors
/// The environment does not exist; the service or target has never been in it and the question does not declare it as
/// new; or the database does not answer.
pub async fn gate(
    snapshot: &mut Snapshot,
    question: &GateQuery,
    now: DateTime<Utc>,
) -> Result<GateDecision, GateError> {
    let GateQuery { lane: named, requester, rollback_id, .. } = question;
    let environment = &named.environment;
    let position = snapshot.position();
    let current = snapshot.state(environment, AsOf::LATEST).await?.into_lanes();
    let known = snapshot.all_lanes(environment).await?;
    if !question.is_new {
        UnknownLane::check(environment, &known, Some(&named.service), named.target.as_ref())?;
    }
    let (release, artifact_known_from) =
        with_artifact_of_version(snapshot, named, &question.release, now).await?;
    let PolicyInForce { declared, policy } = snapshot.policy(environment, position).await?;
    let retired = snapshot.retirements(environment, position).await?.last().retired_by();
    let sources = source_evidence(snapshot, &policy, &named.service, &release, now).await?;
    let promotion: Vec<PromotionEvidence<'_>> = sources.iter().map(SourceEvidence::as_input).collect();
    let freezes = snapshot.freezes(environment, now).await?;
    let active = other_rollback(snapshot, named, rollback_id.as_ref(), &release).await?;
    let revoked = match &release.artifact {
        Some(artifact) => snapshot.revoked([artifact]).await?,
        None => snapshot.revoked_named(&named.service).await?,
    };
    let votes = deploy_votes(snapshot, named, &release).await?;
    let histories = lane_histories(snapshot, lanes_of(named, &current), &votes).await?;
    let inputs: Vec<GateInput<'_>> = histories
        .iter()
        .map(|LaneHistory { lane, rollbacks, deploys }| GateInput {
            lane,
            release: &release,
            requester: requester.as_ref(),
            now,
            policy: &policy,
            retired,
            freezes: &freezes,
            rollback: active.as_ref().map(|(rollback_id, position)| (rollback_id, *position)),
            revocations: Revocations { revoked: &revoked, version_artifacts: None },
            rollbacks,
            deploys,
            present: current.get(&(lane.service.clone(), lane.target.clone())),
            promotion: &promotion,
            votes: &votes,
        })
        .collect();
    let decision = decide(&inputs);
    Ok(GateDecision { position, policy: declared, release, artifact_known_from, decision })
}

/// The evidence from one environment that a policy promotes from.
struct SourceEvidence<'p> {
    environment: &'p EnvironmentName,
    policy: Policy,
    targets: Vec<TargetEvidence>,
}

impl SourceEvidence<'_> {
    fn as_input(&self) -> PromotionEvidence<'_> {
        let Self { environment, policy, targets } = self;
        PromotionEvidence { environment, policy, targets: targets.clone() }
    }
}

async fn source_evidence<'p>(
    snapshot: &mut Snapshot,
    policy: &'p Policy,
    service: &ServiceName,
    release: &Release,
    now: DateTime<Utc>,
) -> Result<Vec<SourceEvidence<'p>>, GateError> {
    let mut sources = Vec::new();
    for environment in policy.promotion.iter().flat_map(|promotion| &promotion.from) {
        let policy = snapshot.policy(environment, snapshot.position()).await?.policy;
        let targets = snapshot.promotion_evidence(environment, service, release, &policy, now).await?;
        sources.push(SourceEvidence { environment, policy, targets });
    }
    Ok(sources)
}

/// Returns the active rollback of the environment, unless the deploy is a step of it.
async fn other_rollback(
    snapshot: &mut Snapshot,
    named: &LaneRef,
    rollback_id: Option<&ShortText>,
    release: &Release,
) -> Result<Option<(ShortText, Position)>, GateError> {
    let Some(active) = snapshot.active_rollback(&named.environment).await? else { return Ok(None) };
    match rollback_id.filter(|rollback_id| **rollback_id == active.0) {
        Some(own) if is_rollback_step(snapshot, own, named, release).await? => Ok(None),
        _ => Ok(Some(active)),
    }
}

/// The events of a lane that the gate counts.
struct LaneHistory {
    lane: Lane,
    rollbacks: Vec<RolledBackRelease>,
    deploys: Vec<SucceededDeploy>,
}

async fn lane_histories(
    snapshot: &mut Snapshot,
    lanes: Vec<Lane>,
    votes: &[DeployVote],
) -> Result<Vec<LaneHistory>, GateError> {
    let mut histories = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let rollbacks = snapshot.left_releases(&lane).await?;
        let earliest = rollbacks.iter().map(|left| left.requested);
        let earliest = earliest.chain(votes.iter().map(|vote| vote.vote.position)).min();
        let deploys = match earliest {
            Some(earliest) => snapshot.deploys_after(&lane, earliest).await?,
            None => Vec::new(),
        };
        histories.push(LaneHistory { lane, rollbacks, deploys });
    }
    Ok(histories)
}

/// Returns a release without an artifact with the one that its version means, and the position of the event that ties
/// them. A release that names an artifact, or has a version that means none, is returned unchanged.
async fn with_artifact_of_version(
    snapshot: &mut Snapshot,
    lane: &LaneRef,
    release: &Release,
    at: DateTime<Utc>,
) -> Result<(Release, Option<Position>), ledger_projections::Error> {
    if release.artifact.is_some() {
        return Ok((release.clone(), None));
    }
    let found = snapshot.artifact_of_version(&lane.environment, &lane.service, &release.version, at).await?;
    Ok(match found {
        Some((artifact, position)) => (release.completed(Some(artifact)), Some(position)),
        None => (release.clone(), None),
    })
}

/// Returns people's approvals and rejections of deploys of a version of the service. One that names no artifact has the
/// artifact that the version meant when the vote was recorded: a later report, even of an earlier time, does not move
/// it to another artifact. If the version meant none then, later reports about the moments up to the vote count.
async fn deploy_votes(
    snapshot: &mut Snapshot,
    named: &LaneRef,
    release: &Release,
) -> Result<Vec<DeployVote>, ledger_projections::Error> {
    let LaneRef { environment, service, .. } = named;
    let mut given = snapshot.votes_on_deploy(environment, service, &release.version).await?;
    // Which of a person's votes covers the deploy depends on their artifacts, so all are needed.
    given.retain(|given| given.vote.actor.is_person());
    let now = snapshot.position();
    let known_moments = given.iter().flat_map(|given| {
        let at = EventTime::new(given.occurred_at, given.vote.position);
        [given.vote.position, now].map(|known_at| KnownEventTime { at, known_at })
    });
    let moments: Vec<KnownEventTime> = match given.iter().any(|given| given.release.artifact.is_none()) {
        true => known_moments.collect(),
        false => Vec::new(),
    };
    let artifacts =
        snapshot.artifacts_of_version_at(environment, service, &release.version, &moments).await?;
    let mut artifacts = artifacts
        .chunks_exact(2)
        .map(|of_vote| of_vote.iter().flatten().next().map(|(artifact, _)| artifact.clone()));
    let votes = given.into_iter().map(|given| {
        let StatedDeployVote { vote, occurred_at, expires_at, target, release } = given;
        let artifact = artifacts.next().flatten();
        let lane = LaneRef { environment: environment.clone(), service: service.clone(), target };
        DeployVote { vote, occurred_at, lane, release: release.completed(artifact), expires_at }
    });
    Ok(votes.collect())
}

/// Returns the lanes of a question: those that a report with the same target, or without one, may mean.
fn lanes_of(named: &LaneRef, current: &Lanes) -> Vec<Lane> {
    let of_service = current.iter().filter(|((service, _), _)| *service == named.service);
    // The current lanes are without the changes that a retirement discards.
    let never_retired = RetirementStatus::Active(None);
    let targets =
        named.targets(of_service.map(|((_, target), fold)| (target, fold.occupancy(never_retired))));
    targets.into_iter().map(|target| named.at(target)).collect()
}
