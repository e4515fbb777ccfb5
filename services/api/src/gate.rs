//! Deployment gate: decides if a release may be deployed to a lane.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_api_types::{FindingBody, GateBody, GateRequest, ReleaseBody, ReleaseRequest};
use ledger_domain::access::Verb;
use ledger_domain::gate::Finding;
use ledger_domain::{Artifact, ConfigDigest, LaneRef, Position, Release, ServiceName, ShortText, TargetName};
use ledger_ingest::{GateQuery, gate};

use crate::access::{AskGate, Authorized};
use crate::body::{ValidJson, parsed_member};
use crate::check_counts::{add_counts, cited_by_findings};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, WaitQuery, wait_for_position, with_position};
use crate::plans::parse_actor;
use crate::problem::Problem;
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

fn parse_release(release: &ReleaseRequest) -> Result<Release, Problem> {
    let short_text = |name, text: &Option<String>| {
        text.as_deref()
            .map(|text| parsed_member(&format!("/release/{name}"), ShortText::parse(text)))
            .transpose()
    };
    Ok(Release {
        version: parsed_member("/release/version", ShortText::parse(&release.version))?,
        artifact: release
            .artifact
            .as_deref()
            .map(|text| parsed_member("/release/artifact", Artifact::parse(text)))
            .transpose()?,
        config: release
            .config
            .as_deref()
            .map(|text| parsed_member("/release/config", ConfigDigest::parse(text)))
            .transpose()?,
        infrastructure: short_text("infrastructure", &release.infrastructure)?,
        commit: short_text("commit", &release.commit)?,
    })
}

/// Returns a finding without the case counts of its evidence.
pub(crate) fn finding_body(finding: &Finding) -> FindingBody {
    FindingBody {
        rule: finding.rule.name().to_owned(),
        target: finding.target.as_ref().map(ToString::to_string),
        passes: finding.passes,
        unknown: finding.unknown,
        detail: finding.detail.clone(),
        position: finding.position.map(Position::get),
        counts: None,
        grants: finding.grants.iter().copied().map(Position::get).collect(),
    }
}

/// Evaluate the gate
///
/// Decides if a release may be deployed to a lane. Returns the finding of every rule of the environment, with the
/// position of its evidence and, if that is the result of a check, its case counts. Records nothing.
#[utoipa::path(
    post,
    path = "/environments/{environment}/gate",
    operation_id = "askGate",
    tag = "rollback",
    params(EnvironmentPath, WaitQuery),
    request_body = GateRequest,
    responses(
        (status = 200, description = "Decision", body = GateBody),
        ProblemResponses,
    )
)]
pub(crate) async fn evaluate_gate(
    ledger: Authorized<AskGate>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<GateRequest>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let target = request.target.as_deref().map(|text| parsed_member("/target", TargetName::parse(text)));
    let claimed = request.requester.as_ref().map(|actor| parse_actor("requester", actor)).transpose()?;
    let question = GateQuery {
        lane: LaneRef {
            environment,
            service: parsed_member("/service", ServiceName::parse(&request.service))?,
            target: target.transpose()?,
        },
        release: parse_release(&request.release)?,
        rollback_id: request
            .rollback_id
            .as_deref()
            .map(|text| parsed_member("/rollback_id", ShortText::parse(text)))
            .transpose()?,
        is_new: request.new,
        requester: ledger.tenancy().requester(claimed).0,
    };
    ledger.tenancy().check(Verb::Gate, &question.lane.environment, Some(&question.lane.service))?;
    ledger.in_time(evaluate(&ledger, &question, &query)).await
}

async fn evaluate(
    ledger: &TenantLedger,
    question: &GateQuery,
    query: &WaitQuery,
) -> Result<Response, Problem> {
    let environment = &question.lane.environment;
    wait_for_position(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    if !snapshot.knows(environment).await? {
        return Err(Problem::unknown_environment(environment));
    }
    let gate = gate(&mut snapshot, question, ledger.now()).await?;
    let mut body = GateBody {
        environment: environment.to_string(),
        position: gate.position.get(),
        policy: gate.policy.map(Position::get),
        allowed: gate.decision.allowed,
        release: Some(ReleaseBody::from(&gate.release)),
        artifact_known_from: gate.artifact_known_from.map(Position::get),
        findings: gate.decision.findings.iter().map(finding_body).collect(),
    };
    add_counts(&mut snapshot, cited_by_findings(&mut body.findings).collect()).await?;
    Ok(with_position(gate.position, Json(body)))
}
