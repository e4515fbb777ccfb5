//! Deployment gate: decides if a release may be deployed to a lane.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_domain::gate::Finding;
use ledger_domain::{Artifact, ConfigDigest, LaneRef, Position, Release, ServiceName, ShortText, TargetName};
use ledger_ingest::{GateQuery, gate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bodies::ActorBody;
use crate::bodies::ReleaseBody;
use crate::body::{ValidJson, parsed_member};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, WaitQuery, wait_for_position, with_position};
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Intended deploy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateRequest {
    /// Service name.
    service: String,
    /// Target name; by default every target at which the service runs.
    target: Option<String>,
    /// Release to deploy.
    release: ReleaseRequest,
    /// Requester of the deploy; their own approval does not count.
    requester: Option<ActorBody>,
    /// Id of the rollback that the deploy is a step of: that rollback does not block it.
    rollback_id: Option<String>,
    /// True for the first deploy of the service or to the target. Without it, a service or target that the environment
    /// never had is an error.
    #[serde(default)]
    new: bool,
}

/// Release, as far as the client can describe it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRequest {
    /// Version.
    version: String,
    /// Artifact: a package URL, or an OCI reference by digest.
    artifact: Option<String>,
    /// Digest of the configuration.
    config: Option<String>,
    /// Revision of the infrastructure code.
    infrastructure: Option<String>,
    /// Commit that the version was built from.
    commit: Option<String>,
}

impl ReleaseRequest {
    fn parse(&self) -> Result<Release, Problem> {
        let short_text = |name, text: &Option<String>| {
            text.as_deref()
                .map(|text| parsed_member(&format!("/release/{name}"), ShortText::parse(text)))
                .transpose()
        };
        Ok(Release {
            version: parsed_member("/release/version", ShortText::parse(&self.version))?,
            artifact: self
                .artifact
                .as_deref()
                .map(|text| parsed_member("/release/artifact", Artifact::parse(text)))
                .transpose()?,
            config: self
                .config
                .as_deref()
                .map(|text| parsed_member("/release/config", ConfigDigest::parse(text)))
                .transpose()?,
            infrastructure: short_text("infrastructure", &self.infrastructure)?,
            commit: short_text("commit", &self.commit)?,
        })
    }
}

/// Decision of the gate.
#[derive(Serialize, ToSchema)]
pub(crate) struct GateBody {
    /// Environment name.
    environment: String,
    /// Ledger position that the response reflects.
    position: u64,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// True if the deploy passes every rule.
    allowed: bool,
    /// Release under decision, with the artifact of its version if the request names none.
    release: ReleaseBody,
    /// Position of the entry that links the version to the artifact, if the gate looked it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_known_from: Option<u64>,
    /// Finding of each rule.
    findings: Vec<FindingBody>,
}

/// Finding of one rule of the gate.
#[derive(Serialize, ToSchema)]
pub(crate) struct FindingBody {
    /// Rule: `retired`, `freeze`, `rollback`, `revoked`, `held`, `promotion` or `approvals`.
    rule: &'static str,
    /// Target concerned; absent if the finding applies to every lane of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// True if the deploy passes the rule.
    passes: bool,
    /// True if the ledger lacks the data that the rule needs; the deploy does not pass then.
    #[serde(skip_serializing_if = "is_false")]
    unknown: bool,
    /// Explanation.
    detail: String,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Positions of the approvals that let the deploy pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grants: Vec<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
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

/// Evaluate the gate
///
/// Decides if a release may be deployed to a lane. Returns the finding of every rule of the environment, with the
/// position of its evidence. Records nothing.
#[utoipa::path(
    post,
    path = "/environments/{environment}/gate",
    operation_id = "askGate",
    tag = "rollback",
    params(EnvironmentPath, WaitQuery),
    request_body = GateRequest,
    responses(
        (status = 200, description = "Decision", body = GateBody),
        (status = "4XX", description = "Invalid request",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn evaluate_gate(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<GateRequest>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let target = request.target.as_deref().map(|text| parsed_member("/target", TargetName::parse(text)));
    let question = GateQuery {
        lane: LaneRef {
            environment: environment.clone(),
            service: parsed_member("/service", ServiceName::parse(&request.service))?,
            target: target.transpose()?,
        },
        release: request.release.parse()?,
        rollback_id: request
            .rollback_id
            .as_deref()
            .map(|text| parsed_member("/rollback_id", ShortText::parse(text)))
            .transpose()?,
        is_new: request.new,
        requester: request.requester.as_ref().map(|actor| actor.parse("requester")).transpose()?,
    };
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let gate = gate(&mut snapshot, &question, ledger.now()).await?;
    let body = GateBody {
        environment: environment.to_string(),
        position: gate.position.get(),
        policy: gate.policy.map(Position::get),
        allowed: gate.decision.allowed,
        release: ReleaseBody::from(&gate.release),
        artifact_known_from: gate.artifact_known_from.map(Position::get),
        findings: gate.decision.findings.iter().map(FindingBody::from).collect(),
    };
    Ok(with_position(gate.position, Json(body)))
}
