//! Names that the ledger knows: finds misspelt ones.
//!
//! Invariant: a look-up that fails, or for which the sender lacks the rights, finds nothing wrong.

use std::time::Duration;

use ledger_api_types::{EnvironmentsBody, EventsBody, FindBody, OverviewBody, StateBody};
use ledger_domain::{EnvironmentName, ServiceName};
use tokio::time::timeout;

use super::connection::Client;
use super::meant::{listed, suggestion};
use super::query::{head, read, with_param};

/// Time limit of a look-up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Number of environments whose services are looked up for a misspelt one.
const SEARCHED_ENVIRONMENTS: u32 = 50;

/// Returns a sentence about an environment that no event names, with the known ones; none if it is known.
pub(super) async fn unknown_environment(client: &Client, environment: &EnvironmentName) -> Option<String> {
    client.wait().await;
    let names = timeout(TIMEOUT, others(client, environment)).await.ok().flatten()?;
    let (near, known) = (suggestion(environment.as_str(), &names), listed(&names));
    let separator = if near.is_empty() { ";" } else { "" };
    Some(format!("no event names the environment {environment}{near}{separator} known: {known}"))
}

/// Returns a sentence about a service that no event names; none if it is known.
pub(super) async fn unknown_service(client: &Client, service: &ServiceName) -> Option<String> {
    client.wait().await;
    let conditions = [("service", service.as_str())];
    let has_events = timeout(TIMEOUT, has_events(client, &conditions)).await.ok().flatten()?;
    if has_events {
        return None;
    }
    let near = service_suggestion(client, service).await;
    let separator = if near.is_empty() { ";" } else { "" };
    Some(format!(
        "no event names the service {service}{near}{separator} `release-ledger services` lists the services"
    ))
}

/// Returns `; did you mean NAME?` for a service that no environment runs; empty if no name is near.
pub(super) async fn service_suggestion(client: &Client, service: &ServiceName) -> String {
    let url = with_param(client.url(&["overview"]), "limit", Some(SEARCHED_ENVIRONMENTS));
    let names = async {
        let body: OverviewBody = read(&client.get(url).await.ok()?).ok()?;
        let lanes = body.environments.into_iter().flat_map(|environment| environment.lanes);
        Some(lanes.map(|lane| lane.service).collect::<Vec<String>>())
    };
    let names = timeout(TIMEOUT, names).await.ok().flatten().unwrap_or_default();
    suggestion(service.as_str(), &names)
}

/// Returns `; did you mean NAME?` for a service that an environment does not run; empty if no name is near.
async fn suggestion_in(client: &Client, environment: &EnvironmentName, service: &ServiceName) -> String {
    let url = client.url(&["environments", environment.as_str(), "state"]);
    let names = async {
        let body: StateBody = read(&client.get(url).await.ok()?).ok()?;
        Some(body.lanes.into_iter().map(|lane| lane.service).collect::<Vec<String>>())
    };
    let names = timeout(TIMEOUT, names).await.ok().flatten().unwrap_or_default();
    suggestion(service.as_str(), &names)
}

/// Returns a sentence about a service, or a version of it, that never ran in an environment; none if it did.
pub(super) async fn never_ran(
    client: &Client,
    environment: &EnvironmentName,
    service: &ServiceName,
    version: Option<&str>,
) -> Option<String> {
    client.wait().await;
    let ran = timeout(TIMEOUT, ran(client, environment, service, version)).await.ok().flatten();
    let what = ran.filter(|(_, ran)| !ran).map(|(what, _)| what)?;
    // A version that never ran is not compared with others: most of them are near.
    let near = match what == service.as_str() {
        true => suggestion_in(client, environment, service).await,
        false => String::new(),
    };
    Some(format!("{environment} never ran {what}: check the spelling{near}"))
}

/// Returns the known environments if this one is none of them.
async fn others(client: &Client, environment: &EnvironmentName) -> Option<Vec<String>> {
    let url = with_param(client.url(&["environments"]), "wait_for", head(client).await.ok());
    let body: EnvironmentsBody = read(&client.get(url).await.ok()?).ok()?;
    let names: Vec<String> = body.environments.into_iter().map(|known| known.name).collect();
    if names.iter().any(|name| name == environment.as_str()) {
        return None;
    }
    // The list lacks those that the sender may not read.
    let state = client.get(client.url(&["environments", environment.as_str(), "state"])).await;
    let is_unknown = state.is_err_and(|error| error.problem("unknown-environment").is_some());
    is_unknown.then_some(names)
}

/// Returns the service, or its version, and true if it ran in the environment.
async fn ran(
    client: &Client,
    environment: &EnvironmentName,
    service: &ServiceName,
    version: Option<&str>,
) -> Option<(String, bool)> {
    let conditions =
        [("environment", environment.as_str()), ("service", service.as_str()), ("type", "deploy.succeeded")];
    if !has_events(client, &conditions).await? {
        return Some((service.to_string(), false));
    }
    let version = version?;
    let url = with_param(client.url(&["find"]), "release", Some(version));
    let body: FindBody = read(&client.get(url).await.ok()?).ok()?;
    let is_here = body.runs.iter().any(|run| {
        run.environment.as_str() == environment.as_str() && run.service.as_str() == service.as_str()
    });
    Some((format!("{service} {version}"), is_here || body.next.is_some()))
}

/// Returns true if entries match the conditions.
async fn has_events(client: &Client, conditions: &[(&str, &str)]) -> Option<bool> {
    let url = with_param(client.url(&["events"]), "limit", Some(1));
    let url = conditions.iter().fold(url, |url, (name, value)| with_param(url, name, Some(value)));
    let url = with_param(url, "wait_for", head(client).await.ok());
    let response = client.get(url).await;
    // The service was never in the environment.
    if matches!(&response, Err(error) if error.problem("unknown-lane").is_some()) {
        return Some(false);
    }
    let body: EventsBody<serde::de::IgnoredAny> = read(&response.ok()?).ok()?;
    // Without entries, a cursor says that more of the ledger is to be searched.
    Some(!body.events.is_empty() || body.next.is_some())
}
