//! Webhooks of GitHub.
//!
//! A `deployment_status` is a deploy: `in_progress` its start, `success`, `failure` and `error` its end. `queued`,
//! `pending` and `waiting` come before the start, and `inactive` follows from a later deploy, which has an event of its
//! own. A review of a deployment is an activity, and so is a pull request that was merged. Runs, suites and check runs
//! are activities, or validations where the settings map them.

mod deployments;
mod pull_requests;
mod reviews;
mod runs;

use serde_json::Value;

use super::context::Context;
use super::draft::Draft;
use super::json::Node;
use super::request::Request;
use crate::translation::{NotUnderstood, Translation};

/// The header with the name of the event.
pub(super) const EVENT: &str = "X-GitHub-Event";

/// Translates a delivery.
pub(super) fn translate(
    context: Context<'_>,
    request: &Request<'_>,
    body: &Value,
) -> Result<Translation, NotUnderstood> {
    let root = Node::root(body);
    let event = request.header(EVENT).ok_or_else(|| root.fault(format!("the header {EVENT} is missing")))?;
    let action = root.optional_text("action")?;
    match event {
        "ping" => Ok(Translation::Ignored("ping: a test delivery of GitHub".to_owned())),
        "deployment_status" => deployments::status(context, &root),
        "deployment" => deployments::created(context, &root),
        "deployment_review" => reviews::translate(context, &root),
        "workflow_run" | "check_run" | "check_suite" if action != Some("completed") => {
            Ok(Translation::Ignored(format!(
                "{event} {}: only completed ones are recorded",
                action.unwrap_or_default()
            )))
        }
        "pull_request" if action != Some("closed") => Ok(Translation::Ignored(format!(
            "pull_request {}: only merged ones are recorded",
            action.unwrap_or_default()
        ))),
        "pull_request" => pull_requests::closed(context, &root),
        "workflow_run" => runs::workflow_run(context, &root),
        "check_run" => runs::check_run(context, &root),
        "check_suite" => runs::check_suite(context, &root),
        "release" => release(context, &root),
        other => Ok(Translation::Ignored(format!("the event {other:?} of GitHub is not recorded"))),
    }
}

/// The repository of a message.
#[derive(Debug, Clone)]
struct Repository<'m> {
    node: Node<'m>,
    /// Owner and name.
    full_name: &'m str,
    /// Source of the events of the repository.
    source: String,
}

impl<'m> Repository<'m> {
    fn read(context: Context<'_>, root: &Node<'m>) -> Result<Self, NotUnderstood> {
        let node = root.object("repository")?;
        let full_name = node.text("full_name")?;
        let source = context.source(node.text("html_url")?);
        Ok(Self { node, full_name, source })
    }

    /// Returns the foreign name of the service: owner and name if they are mapped, else the name.
    fn service_name(&self, context: Context<'_>) -> Result<&'m str, NotUnderstood> {
        let is_mapped = context.webhook.names.services.contains_key(self.full_name);
        if is_mapped { Ok(self.full_name) } else { self.node.text("name") }
    }

    /// Returns the member that holds the foreign name of the service.
    fn service_member(&self, context: Context<'_>) -> &'static str {
        let is_mapped = context.webhook.names.services.contains_key(self.full_name);
        if is_mapped { "full_name" } else { "name" }
    }
}

/// Returns a user as an actor: the type and the login.
fn actor<'m>(user: Option<&Node<'m>>) -> Option<(&'static str, &'m str)> {
    let user = user?;
    let login = user.hint("login")?;
    Some((if user.hint("type") == Some("User") { "person" } else { "workload" }, login))
}

/// A published release is an activity: it states that a version exists, and not that it runs.
fn release(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let action = root.text("action")?;
    if action != "published" {
        return Ok(Translation::Ignored(format!("release {action}: only published ones are recorded")));
    }
    let repository = Repository::read(context, root)?;
    let release = root.object("release")?;
    let at = context.time(&release, "published_at")?;
    let id = format!("release/{}/published/{}", release.id("id")?, at.timestamp());
    let tag = release.text("tag_name")?;
    let event = Draft::new("activity.reported", &repository.source, &id, at)
        .with("activity", "release.published")
        .with_line("subject", Some(&format!("{} {tag}", repository.full_name)))
        .with_actor(actor(release.get("author").as_ref()))
        .with_link("release", release.hint("html_url"));
    Ok(Translation::Events(vec![event.build()]))
}

#[cfg(test)]
mod tests;
