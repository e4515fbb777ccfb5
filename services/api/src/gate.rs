//! The gate: whether a release may be deployed to a lane.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_domain::gate::Finding;
use ledger_domain::{Artifact, ConfigDigest, LaneRef, Position, Release, ServiceName, ShortText, TargetName};
use ledger_ingest::{GateQuestion, gate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::{ValidJson, invalid};
use crate::environments::{EnvironmentPath, ReleaseBody};
use crate::parameters::{StrictQuery, WaitQuery, at, wait};
use crate::plans::ActorBody;
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// What somebody wants to deploy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateRequest {
    /// The service.
    service: String,
    /// The target; unless given, every one at which the service runs.
    target: Option<String>,
    /// The release.
    release: ReleaseRequest,
    /// Who wants to deploy it; their own approval does not count.
    requester: Option<ActorBody>,
    /// The rollback that the deploy is a step of: then that rollback does not stand in its way.
    rollback_id: Option<String>,
    /// Whether this is the first deploy of the service, or to the target: otherwise one that never was in the environment is
    /// an error.
    #[serde(default)]
    new: bool,
}

/// A release, as far as whoever asks knows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRequest {
    /// The version.
    version: String,
    /// A package URL, or an OCI reference by digest.
    artifact: Option<String>,
    /// The configuration's digest.
    config: Option<String>,
    /// The revision of the infrastructure's code.
    infrastructure: Option<String>,
    /// The commit that the version was built from.
    commit: Option<String>,
}

impl ReleaseRequest {
    fn parse(&self) -> Result<Release, Problem> {
        let line = |name, text: &Option<String>| {
            text.as_deref()
                .map(|text| invalid(&format!("/release/{name}"), ShortText::parse(text)))
                .transpose()
        };
        Ok(Release {
            version: invalid("/release/version", ShortText::parse(&self.version))?,
            artifact: self
                .artifact
                .as_deref()
                .map(|text| invalid("/release/artifact", Artifact::parse(text)))
                .transpose()?,
            config: self
                .config
                .as_deref()
                .map(|text| invalid("/release/config", ConfigDigest::parse(text)))
                .transpose()?,
            infrastructure: line("infrastructure", &self.infrastructure)?,
            commit: line("commit", &self.commit)?,
        })
    }
}

/// What the gate says.
#[derive(Serialize, ToSchema)]
pub(crate) struct GateBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The position of the policy that it was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// Whether every rule lets the deploy pass.
    allowed: bool,
    /// The release that was judged: with the artifact that its version means, where the request states none.
    release: ReleaseBody,
    /// The position that says what the version means, where that was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_known_from: Option<u64>,
    /// What each rule says.
    findings: Vec<FindingBody>,
}

/// What a rule of the gate says.
#[derive(Serialize, ToSchema)]
pub(crate) struct FindingBody {
    /// `retired`, `freeze`, `rollback`, `revoked`, `held`, `promotion` or `approvals`.
    rule: &'static str,
    /// The target that it is about; absent: it is the same for every lane of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Whether it lets the deploy pass.
    passes: bool,
    /// `true` where the ledger lacks what the rule decides by; the deploy does not pass then.
    #[serde(skip_serializing_if = "is_false")]
    unknown: bool,
    /// Why.
    detail: String,
    /// The position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// The positions of the grants that let the deploy pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grants: Vec<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl From<&Finding> for FindingBody {
    fn from(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.name(),
            target: finding.target.as_ref().map(ToString::to_string),
            passes: finding.passes,
            unknown: finding.unknown,
            detail: finding.detail.clone(),
            position: finding.position.map(Position::get),
            grants: finding.grants.iter().copied().map(Position::get).collect(),
        }
    }
}

/// Ask the gate
///
/// Whether a release may be deployed to a lane, by every rule that the environment has, each with the
/// position of its evidence. Nothing is recorded.
#[utoipa::path(
    post,
    path = "/environments/{environment}/gate",
    operation_id = "askGate",
    tag = "rollback",
    params(EnvironmentPath, WaitQuery),
    request_body = GateRequest,
    responses(
        (status = 200, description = "Whether it may", body = GateBody),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ask_gate(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<GateRequest>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let target = request.target.as_deref().map(|text| invalid("/target", TargetName::parse(text)));
    let question = GateQuestion {
        lane: LaneRef {
            environment: environment.clone(),
            service: invalid("/service", ServiceName::parse(&request.service))?,
            target: target.transpose()?,
        },
        release: request.release.parse()?,
        rollback_id: request
            .rollback_id
            .as_deref()
            .map(|text| invalid("/rollback_id", ShortText::parse(text)))
            .transpose()?,
        is_new: request.new,
        requester: request.requester.as_ref().map(|actor| actor.parse("requester")).transpose()?,
    };
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let answer = gate(&mut snapshot, &question, ledger.now()).await?;
    let body = GateBody {
        environment: environment.to_string(),
        position: answer.position.get(),
        policy: answer.policy.map(Position::get),
        allowed: answer.decision.allowed,
        release: ReleaseBody::from(&answer.release),
        artifact_known_from: answer.artifact_known_from.map(Position::get),
        findings: answer.decision.findings.iter().map(FindingBody::from).collect(),
    };
    Ok(at(answer.position, Json(body)))
}
