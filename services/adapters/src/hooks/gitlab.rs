//! Webhooks of GitLab.
//!
//! A deployment is a deploy: `running` its start, `success`, `failed` and `canceled` its end. Pipelines and jobs that have
//! ended are activities, or validations where the settings map them. Releases and feature flags are activities.

mod runs;

use serde_json::Value;

use super::context::Context;
use super::draft::Draft;
use super::json::Node;
use super::release::{ReleaseParts, check_version, version_of};
use super::request::Request;
use crate::text;
use crate::translation::{NotUnderstood, Translation};

/// Headers with the id of the delivery, which a retry keeps; the first that is present counts.
pub(super) const DELIVERY: [&str; 3] = ["Idempotency-Key", "webhook-id", "X-Gitlab-Event-UUID"];

/// Translates a delivery.
pub(super) fn translate(
    context: Context<'_>,
    request: &Request<'_>,
    body: &Value,
) -> Result<Translation, NotUnderstood> {
    let root = Node::root(body);
    let kind = match root.optional_text("object_kind")? {
        Some(kind) => kind,
        // Events of the system have another name, and none of them is recorded.
        None => root.text("event_name").map_err(|_| root.fault_in("object_kind", "is required"))?,
    };
    match kind {
        "deployment" => deployment(context, &root),
        "pipeline" => runs::pipeline(context, &root),
        "build" => runs::job(context, &root),
        "release" => release(context, &root),
        "feature_flag" => feature_flag(context, request, &root),
        other => {
            let other: String = other.chars().take(64).collect();
            Ok(Translation::Ignored(format!("the event {other:?} of GitLab is not recorded")))
        }
    }
}

/// The project of a message.
#[derive(Debug, Clone)]
struct Project {
    /// Source of the events of the project.
    source: String,
    /// Namespace and path: `group/search-api`.
    path: String,
    /// Default branch, if the message states it.
    default_branch: Option<String>,
}

impl Project {
    fn read(context: Context<'_>, root: &Node<'_>) -> Result<Self, NotUnderstood> {
        let project = root.optional_object("project")?;
        let repository = root.optional_object("repository")?;
        let (url, path) = match (&project, &repository) {
            (Some(project), _) => (project.text("web_url")?, project.optional_text("path_with_namespace")?),
            (None, Some(repository)) => (repository.text("homepage")?, None),
            (None, None) => return Err(root.fault_in("project", "is required, and must be an object")),
        };
        // Without scheme and host.
        let in_url = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
        let path = path.or(in_url).unwrap_or(url).trim_matches('/').to_owned();
        let default_branch =
            project.as_ref().and_then(|project| project.hint("default_branch")).map(str::to_owned);
        Ok(Self { source: context.source(url), path, default_branch })
    }

    /// Returns the foreign name of the service: the whole path if it is mapped, else its last part.
    fn service_name(&self, context: Context<'_>) -> &str {
        if context.webhook.names.services.contains_key(&self.path) {
            return &self.path;
        }
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Returns the user who caused a message: the type and the name.
fn actor<'m>(root: &Node<'m>) -> Option<(&'static str, &'m str)> {
    let name = root.get("user")?.hint("username")?;
    let is_bot = name.contains("_bot_") || name.ends_with("-bot") || name.ends_with("_bot");
    Some((if is_bot { "workload" } else { "person" }, name))
}

/// A state of a deployment is the start or the end of a deploy.
fn deployment(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let status = root.text("status")?;
    let kind = match status {
        "running" => "deploy.started",
        "success" => "deploy.succeeded",
        "failed" | "canceled" => "deploy.failed",
        "created" | "blocked" | "skipped" | "approved" => {
            return Ok(Translation::Ignored(format!("deployment {status}: the deploy has not started")));
        }
        other => {
            let other: String = other.chars().take(64).collect();
            return Err(root.fault_in("status", format!("{other:?} is an unknown status")));
        }
    };
    if let Some(ignored) = context.ignored(root.optional_text("environment")?) {
        return Ok(ignored);
    }
    let environment = context.environment(root, "environment")?;
    let project = Project::read(context, root)?;
    let id = root.id("deployment_id")?;
    let at = context.time(root, "status_changed_at")?;
    let service = context.webhook.names.service(Some(project.service_name(context)));
    let service = service.map_err(|error| root.fault_in("project", error.to_string()))?;
    let reason =
        if status == "canceled" { Some("The deploy was cancelled.") } else { root.hint("commit_title") };
    let event = Draft::new(kind, &project.source, &format!("deployment/{id}/{status}"), at)
        .with("environment", environment.as_str())
        .with("service", service.as_str())
        .with_optional("target", context.default_target().map(|name| name.to_string()))
        .with("deployment", text::id(&format!("deployment/{id}")))
        .with("release", deployed(context, root)?.value())
        .with_actor(actor(root))
        .with_reason(reason)
        .with_link("pipeline", root.hint("deployable_url"))
        .with_link("commit", root.hint("commit_url"))
        .with_link("environment", root.hint("environment_external_url"));
    Ok(Translation::Events(vec![event.build()]))
}

/// Returns the release of a deployment. GitLab states a short commit id; the full one is in the commit's address.
fn deployed(context: Context<'_>, root: &Node<'_>) -> Result<ReleaseParts, NotUnderstood> {
    let short = root.text("short_sha")?;
    let in_url = root.hint("commit_url").and_then(|url| url.rsplit('/').next());
    let commit = in_url.filter(|commit| text::is_full_commit(commit) && commit.starts_with(short));
    let reference = root.optional_text("ref")?;
    let version = version_of(context.webhook.version, reference, commit.unwrap_or(short));
    check_version(&version, |detail| root.fault_in("ref", detail))?;
    // A short id would contradict the full one of another report.
    Ok(ReleaseParts { version, commit: commit.map(str::to_owned), ..ReleaseParts::default() })
}

/// A release that was created is an activity: it states that a version exists, and not that it runs.
fn release(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let action = root.text("action")?;
    if action != "create" {
        return Ok(Translation::Ignored(format!("release {action}: only created ones are recorded")));
    }
    let project = Project::read(context, root)?;
    let at = context.optional_time(root, "released_at")?;
    let at = at.map_or_else(|| context.time(root, "created_at"), Ok)?;
    let commit =
        root.get("commit").and_then(|commit| commit.hint("id")).filter(|id| text::is_full_commit(id));
    let event =
        Draft::new("activity.reported", &project.source, &format!("release/{}/create", root.id("id")?), at)
            .with("activity", "release.published")
            .with_line("subject", Some(&format!("{} {}", project.path, root.text("tag")?)))
            .with_optional("commit", commit)
            .with_link("release", root.hint("url"));
    Ok(Translation::Events(vec![event.build()]))
}

/// A feature flag that was switched is an activity. Its message has no time and no id of the change: the time is that of
/// the arrival, and the identity is that of the delivery. A delivery without an id is another event at each arrival.
fn feature_flag(
    context: Context<'_>,
    request: &Request<'_>,
    root: &Node<'_>,
) -> Result<Translation, NotUnderstood> {
    let project = Project::read(context, root)?;
    let flag = root.object("object_attributes")?;
    let name = flag.text("name")?;
    let delivery = DELIVERY.iter().find_map(|header| request.header(header)).map(str::to_owned);
    let delivery =
        delivery.unwrap_or_else(|| text::digest(&format!("{}{}", context.now.timestamp(), root.value())));
    let state = if flag.flag("active")? { "on" } else { "off" };
    let id = format!("feature_flag/{}/{state}/{delivery}", flag.id("id")?);
    let event = Draft::arrived("activity.reported", &project.source, &id, context.now)
        .with("activity", "feature_flag.switched")
        .with_line("subject", Some(&format!("{}: {name}", project.path)))
        .with("outcome", state)
        .with_actor(actor(root))
        .with_reason(flag.hint("description"));
    Ok(Translation::Events(vec![event.build()]))
}

#[cfg(test)]
mod tests;
