//! Forms with which people decide about rollbacks and releases.

use axum::extract::Request;
use axum::response::Redirect;
use ledger_api_types::{EntryBody, RollbackBody};
use ledger_domain::{EnvironmentName, Kind as EventKind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::form::{FormProblem, Typed, parse_event_id, reason};
use super::record::record;
use super::tenant_page::TenantPage;
use super::views::{ask_gate, gate_request};
use crate::form::read_form;
use crate::parameters::parse;
use crate::problem::{Kind, Problem};

/// Maximum size of a form, in bytes.
const FORM_LIMIT: usize = 64 << 10;

/// Form that decides about a rollback.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VoteForm {
    decision: String,
    #[serde(default)]
    reason: String,
    event_id: String,
}

/// Records an approval, a rejection or a cancellation of a rollback, and shows the rollback with it.
pub(super) async fn vote(page: TenantPage, request: Request) -> Result<Redirect, FormProblem> {
    page.sender()?;
    let fields = "decision, event_id and, if given, reason";
    let form: VoteForm = read_form(page.app(), request, FORM_LIMIT, fields).await?;
    let part = page.part().strip_suffix("/vote").unwrap_or_default();
    let typed = Typed { page: page.page_path(part), reason: form.reason.clone() };
    record_vote(&page, part, &form).await.map_err(|problem| typed.with(problem))
}

async fn record_vote(page: &TenantPage, part: &str, form: &VoteForm) -> Result<Redirect, Problem> {
    let event_id = parse_event_id(&form.event_id)?;
    let kind = match form.decision.as_str() {
        "approve" => EventKind::ApprovalGranted,
        "reject" => EventKind::ApprovalRejected,
        "cancel" => EventKind::RollbackCancelled,
        _ => return Err(Problem::parameter("decision", "must be approve, reject or cancel")),
    };
    let rollback: RollbackBody = page.api.get(&page.api_path(part)).await?;
    let reason = reason(&form.reason);
    let members = [
        ("environment", Some(rollback.environment.as_str())),
        ("rollback_id", Some(rollback.rollback_id.as_str())),
        ("reason", reason.as_deref()),
    ];
    let position = record(page, event_id, kind, &members, None).await?;
    Ok(Redirect::to(&page.page_path(&format!("{part}?wait_for={position}"))))
}

/// Form that decides about a deploy of a release.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseForm {
    decision: String,
    environment: String,
    service: String,
    version: String,
    #[serde(default)]
    artifact: String,
    /// `true` if the page asked about the first deploy of the service.
    #[serde(default)]
    new: String,
    #[serde(default)]
    reason: String,
    event_id: String,
}

/// Records an approval or a rejection of a deploy, and shows its entry, or the gate's findings to a sender who may not read
/// it.
pub(super) async fn decide_release(page: TenantPage, request: Request) -> Result<Redirect, FormProblem> {
    page.sender()?;
    let fields = "decision, event_id, environment, service, version and, if given, artifact, new and reason";
    let form: ReleaseForm = read_form(page.app(), request, FORM_LIMIT, fields).await?;
    let path = page.page_path(&format!("/approvals/new?{}", gate_query(&form)));
    let typed = Typed { page: path, reason: form.reason.clone() };
    record_decision(&page, &form).await.map_err(|problem| typed.with(problem))
}

async fn record_decision(page: &TenantPage, form: &ReleaseForm) -> Result<Redirect, Problem> {
    let event_id = parse_event_id(&form.event_id)?;
    let kind = match form.decision.as_str() {
        "approve" => EventKind::ApprovalGranted,
        "reject" => EventKind::ApprovalRejected,
        _ => return Err(Problem::parameter("decision", "must be approve or reject")),
    };
    let environment = parse("environment", form.environment.trim(), EnvironmentName::parse)?;
    check_known(page, &environment).await?;
    check_artifact(page, &environment, form).await?;
    let reason = reason(&form.reason);
    let members = [
        ("environment", Some(environment.as_str())),
        ("service", Some(form.service.trim())),
        ("reason", reason.as_deref()),
    ];
    let position = record(page, event_id, kind, &members, Some(release(form))).await?;
    let entry = format!("/events/{position}?wait_for={position}");
    let is_readable = match page.api.get::<EntryBody<IgnoredAny>>(&page.api_path(&entry)).await {
        Ok(_) => true,
        Err(problem) => !matches!(problem.into_body().status, 403 | 404),
    };
    // The verb `approve` does not include `read`.
    let part = if is_readable { entry } else { format!("/approvals/new?{}", gate_query(form)) };
    Ok(Redirect::to(&page.page_path(&part)))
}

fn release(form: &ReleaseForm) -> Value {
    let mut release = json!({"version": form.version.trim()});
    if !form.artifact.trim().is_empty() {
        release["artifact"] = form.artifact.trim().into();
    }
    release
}

/// Returns the query of the page that asks the gate about the release of a form.
fn gate_query(form: &ReleaseForm) -> String {
    let ReleaseForm { environment, service, version, artifact, .. } = form;
    let fields =
        [("environment", environment), ("service", service), ("version", version), ("artifact", artifact)];
    let pair = |(name, text): (&str, &String)| {
        format!("{name}={}", utf8_percent_encode(text.trim(), NON_ALPHANUMERIC))
    };
    let question = fields.map(pair).join("&");
    if form.new == "true" { format!("{question}&new=true") } else { question }
}

/// Checks that the version of a form without an artifact means none, as far as the sender may ask. The page gives its form
/// the artifact that it shows; without one, the decision would be about an artifact that its sender has not seen.
async fn check_artifact(
    page: &TenantPage,
    environment: &EnvironmentName,
    form: &ReleaseForm,
) -> Result<(), Problem> {
    if !form.artifact.trim().is_empty() {
        return Ok(());
    }
    let (service, version) = (form.service.trim(), form.version.trim());
    let gate = ask_gate(page, environment, &gate_request(service, version, None, true)).await;
    let release = match gate.map_err(Problem::into_body) {
        Ok(gate) => gate.release,
        Err(problem) if problem.slug() == Some("forbidden") => None,
        Err(problem) => return Err(problem.into()),
    };
    let Some(artifact) = release.and_then(|release| release.artifact) else { return Ok(()) };
    let detail = format!(
        "version {version} of {service} means the artifact {artifact}, which the page did not show; load the page again \
         to decide about it"
    );
    Err(Problem::new(Kind::EnvironmentMoved, detail))
}

/// Checks that the ledger knows an environment, as far as the sender may ask: a misspelt one would be recorded.
async fn check_known(page: &TenantPage, environment: &EnvironmentName) -> Result<(), Problem> {
    let path = page.api_path(&format!("/environments/{environment}/state"));
    match page.api.get::<IgnoredAny>(&path).await.map_err(Problem::into_body) {
        Ok(_) => Ok(()),
        Err(problem) if problem.slug() == Some("forbidden") => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_about_a_release_survives_any_text() {
        let text = str::to_owned;
        let form = ReleaseForm {
            decision: text("approve"),
            environment: text("production"),
            service: text("web"),
            version: text(" v1&new=true "),
            artifact: String::new(),
            new: text("true"),
            reason: String::new(),
            event_id: String::new(),
        };

        assert_eq!(
            gate_query(&form),
            "environment=production&service=web&version=v1%26new%3Dtrue&artifact=&new=true"
        );
        assert_eq!(release(&form), json!({"version": "v1&new=true"}));
    }
}
