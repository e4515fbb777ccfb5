//! Pages that show answers of the API.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use ledger_api_types::{
    EntryBody, GateBody, GateRequest, OverviewBody, ReleaseRequest, RollbackBody, RollbacksBody, StateBody,
    WhoAmIBody,
};
use ledger_domain::access::Pattern;
use ledger_domain::{EnvironmentName, TenantName};
use ledger_pages::{CommandLine, Frame, ReleaseQuestion};
use serde::Deserialize;

use super::ask::PageApi;
use super::problems::has_session;
use super::tenant_page::{TenantPage, html};
use crate::App;
use crate::access::{Authentication, Sent};
use crate::parameters::{NoParameters, StrictQuery, parse};
use crate::problem::Problem;

/// Phases of a rollback that has not ended.
const OPEN_PHASES: [&str; 2] = ["requested", "started"];

/// Returns the style sheet of every page.
pub(super) async fn style() -> Response {
    immutable("text/css; charset=utf-8", ledger_pages::style())
}

/// Returns the icon.
pub(super) async fn icon() -> Response {
    immutable("image/svg+xml", ledger_pages::icon())
}

/// Returns a file whose path changes with its contents.
fn immutable(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, content).into_response()
}

/// Lists the tenants that the reader may know. If there is one, redirects to its overview.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    api: PageApi,
    Extension(Sent(sender)): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenants = tenants(&app, &api).await?;
    if let [tenant] = &tenants[..] {
        return Ok(Redirect::to(&format!("/t/{tenant}")).into_response());
    }
    let frame = Frame {
        tenant: None,
        reader: sender.as_deref().map(|sender| sender.name.as_str()),
        can_sign_out: has_session(&headers),
        api_path: Some("/v1/whoami"),
        command: Some("release-ledger whoami"),
        query: "",
    };
    let names: Vec<&str> = tenants.iter().map(TenantName::as_str).collect();
    Ok(html(ledger_pages::tenants(&frame, &names))?.into_response())
}

/// Returns the tenants that the process serves and that a grant of the reader names. `_admin` is left out: nothing runs
/// there.
async fn tenants(app: &App, api: &PageApi) -> Result<Vec<TenantName>, Problem> {
    let served: Vec<TenantName> =
        app.ledgers.all().keys().filter(|tenant| !tenant.is_admin()).cloned().collect();
    if matches!(app.authentication, Authentication::Off) {
        return Ok(served);
    }
    let reader: WhoAmIBody = api.get("/v1/whoami").await?;
    let patterns: Vec<Pattern> =
        reader.grants.iter().filter_map(|grant| Pattern::parse(&grant.tenant).ok()).collect();
    let is_known = |tenant: &TenantName| patterns.iter().any(|pattern| pattern.matches(tenant.as_str()));
    Ok(served.into_iter().filter(is_known).collect())
}

/// Shows what every environment runs, and the rollbacks that have not ended.
pub(super) async fn overview(this: TenantPage) -> Result<Html<String>, Problem> {
    let overview: OverviewBody = this.api.get(&this.api_request("/overview")).await?;
    let rollbacks = open_rollbacks(&this, &overview).await?;
    let flags = |command: CommandLine, name: &str, flag: &str| {
        let values = this.values(name);
        let names = values.iter().flat_map(|value| value.split(','));
        names.fold(command, |command, name| command.flag(flag, Some(name)))
    };
    let command = flags(CommandLine::new("overview"), "environment", "--environment");
    let command = flags(command, "service", "--service").of_tenant(this.tenant.as_str());
    let path = this.shown_api_request("/overview");
    let frame = this.frame(Some(&path), Some(&command));
    html(ledger_pages::overview(&frame, &overview, &rollbacks, this.now()?))
}

/// Returns the rollbacks that have not ended: of all environments, or of those in the overview if the reader may not see
/// all.
async fn open_rollbacks(this: &TenantPage, overview: &OverviewBody) -> Result<RollbacksBody, Problem> {
    let scopes: Vec<String> = if overview.restricted {
        overview.environments.iter().map(|of| format!("&environment={}", of.name)).collect()
    } else {
        vec![String::new()]
    };
    let mut open = RollbacksBody { position: overview.position, rollbacks: Vec::new(), next: None };
    for scope in &scopes {
        for phase in OPEN_PHASES {
            let path = this.api_path(&format!("/rollbacks?limit=100&phase={phase}{scope}"));
            let found: RollbacksBody = this.api.get(&path).await?;
            open.rollbacks.extend(found.rollbacks);
            open.next = open.next.max(found.next);
        }
    }
    open.rollbacks.sort_by_key(|rollback| std::cmp::Reverse(rollback.requested.position));
    // A rollback that starts between the two requests is in both answers.
    open.rollbacks.dedup_by_key(|rollback| rollback.requested.position);
    Ok(open)
}

/// Shows what an environment runs, or ran at any point.
pub(super) async fn environment(this: TenantPage) -> Result<Html<String>, Problem> {
    let part = format!("{}/state", this.part());
    let state: StateBody = this.api.get(&this.api_request(&part)).await?;
    let command = CommandLine::new("state").argument(&state.environment);
    let command = command.flag("--at", this.value("at").as_deref());
    let command = command.flag("--known-at", this.value("known_at").as_deref());
    let command = command.of_tenant(this.tenant.as_str());
    let path = this.shown_api_request(&part);
    let frame = this.frame(Some(&path), Some(&command));
    html(ledger_pages::environment(&frame, &state, this.value("known_at").as_deref(), this.now()?))
}

/// Lists rollbacks, latest request first.
pub(super) async fn rollbacks(this: TenantPage) -> Result<Html<String>, Problem> {
    let rollbacks: RollbacksBody = this.api.get(&this.api_request("/rollbacks")).await?;
    let environment = this.value("environment");
    let command = CommandLine::new("rollback list").flag("--environment", environment.as_deref());
    let command = command.flag("--phase", this.value("phase").as_deref());
    let command = command.flag("--before", this.value("before").as_deref());
    let command = command.flag("--limit", this.value("limit").as_deref());
    let command = command.of_tenant(this.tenant.as_str());
    let path = this.shown_api_request("/rollbacks");
    let frame = this.frame(Some(&path), Some(&command));
    html(ledger_pages::rollbacks(&frame, &rollbacks, environment.as_deref()))
}

/// Shows a rollback, with forms that decide about it.
pub(super) async fn rollback(this: TenantPage) -> Result<Html<String>, Problem> {
    let rollback: RollbackBody = this.api.get(&this.api_request(this.part())).await?;
    let command = CommandLine::new("rollback show").argument(&rollback.rollback_id);
    let command = command.of_tenant(this.tenant.as_str());
    let path = this.shown_api_request(this.part());
    let event_id = this.new_event_id();
    html(ledger_pages::rollback(&this.frame(Some(&path), Some(&command)), &rollback, event_id.as_deref()))
}

/// Shows an entry of the ledger.
pub(super) async fn entry(this: TenantPage) -> Result<Html<String>, Problem> {
    let (entry, latest): (EntryBody, _) = this.api.get_with_position(&this.api_request(this.part())).await?;
    let command = CommandLine::new("entry").argument(&entry.position.to_string());
    let command = command.of_tenant(this.tenant.as_str());
    let path = this.shown_api_request(this.part());
    html(ledger_pages::entry(&this.frame(Some(&path), Some(&command)), &entry, latest))
}

/// Release that a reader asks about. An empty field stands for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseQuery {
    #[serde(default)]
    environment: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    artifact: String,
    /// `true` for the first deploy of the service.
    #[serde(default)]
    new: String,
}

/// Shows whether a release may be deployed, with a form that approves or rejects it. Without a release, asks for one.
pub(super) async fn approval(
    this: TenantPage,
    StrictQuery(query): StrictQuery<ReleaseQuery>,
) -> Result<Html<String>, Problem> {
    let [environment, service, version, artifact] =
        [&query.environment, &query.service, &query.version, &query.artifact].map(|text| text.trim());
    let is_new = parse("new", &query.new, parse_new)?;
    let question = ReleaseQuestion { environment, service, version, artifact, is_new };
    if [environment, service, version].iter().any(|text| text.is_empty()) {
        check_tenant(&this).await?;
        return html(ledger_pages::approval(&this.frame(None, None), &question, None, None));
    }
    let name = parse("environment", environment, EnvironmentName::parse)?;
    let artifact = (!artifact.is_empty()).then_some(artifact);
    let gate = ask_gate(&this, &name, &gate_request(service, version, artifact, is_new)).await?;
    let command = CommandLine::new("gate").argument(environment).argument(service).argument(version);
    let command = command.flag("--artifact", artifact);
    let command = if is_new { command.argument("--new") } else { command };
    let command = command.of_tenant(this.tenant.as_str());
    let event_id = this.new_event_id();
    // The request of the API is a POST with a body, which a path alone does not show.
    let frame = this.frame(None, Some(&command));
    html(ledger_pages::approval(&frame, &question, Some(&gate), event_id.as_deref()))
}

/// Returns the request to the gate about a release at all targets of a service. `is_new`: the service may be new in the
/// environment.
pub(super) fn gate_request(
    service: &str,
    version: &str,
    artifact: Option<&str>,
    is_new: bool,
) -> GateRequest {
    GateRequest {
        service: service.to_owned(),
        target: None,
        release: ReleaseRequest {
            version: version.to_owned(),
            artifact: artifact.map(str::to_owned),
            config: None,
            infrastructure: None,
            commit: None,
        },
        requester: None,
        rollback_id: None,
        new: is_new,
    }
}

/// Returns the answer of the gate of an environment.
pub(super) async fn ask_gate(
    this: &TenantPage,
    environment: &EnvironmentName,
    request: &GateRequest,
) -> Result<GateBody, Problem> {
    let path = this.api_path(&format!("/environments/{environment}/gate"));
    this.api.post(&path, "application/json", request).await
}

fn parse_new(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        _ => Err("must be true or false"),
    }
}

/// Checks that the reader may know the tenant, for a page that requests nothing else.
async fn check_tenant(this: &TenantPage) -> Result<(), Problem> {
    this.api.get::<serde::de::IgnoredAny>(&this.api_path("/environments")).await.map(|_| ())
}
