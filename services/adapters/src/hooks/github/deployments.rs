//! Deployments of GitHub and their states.

use serde_json::Value;

use super::{Repository, actor};
use crate::hooks::context::Context;
use crate::hooks::draft::Draft;
use crate::hooks::json::Node;
use crate::hooks::release::{self, ReleaseParts, check_version, version_of};
use crate::hooks::settings::PayloadMember;
use crate::text;
use crate::translation::{NotUnderstood, Translation};

/// Part of the address of a workflow run before its id.
const RUNS: &str = "/actions/runs/";

/// A deployment that has been created is an activity: it has not started, and may wait for a review.
pub(super) fn created(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let repository = Repository::read(context, root)?;
    let deployment = root.object("deployment")?;
    let environment = deployment.optional_text("environment")?;
    if let Some(ignored) = ignored(context, &deployment, environment)? {
        return Ok(ignored);
    }
    let id = deployment.id("id")?;
    let at = context.time(&deployment, "created_at")?;
    let environment = context.known_environment(environment);
    let service = context.webhook.names.service(repository.service_name(context).ok());
    let service = service.ok().filter(|_| environment.is_some());
    let event = Draft::new("activity.reported", &repository.source, &format!("deployment/{id}"), at)
        .with("activity", "deployment.created")
        .with_line("subject", Some(&format!("deployment {id} of {}", repository.full_name)))
        .with_optional("environment", environment.map(|name| name.to_string()))
        .with_optional("service", service.map(|name| name.to_string()))
        .with_optional("commit", deployment.hint("sha").filter(|sha| text::is_full_commit(sha)))
        .with_actor(actor(deployment.get("creator").as_ref()))
        .with_reason(deployment.hint("description"))
        .with_correlation(correlation(root));
    Ok(Translation::Events(vec![event.build()]))
}

/// A state of a deployment is the start or the end of a deploy.
pub(super) fn status(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let status = root.object("deployment_status")?;
    let deployment = root.object("deployment")?;
    let state = status.text("state")?;
    let kind = match state {
        "in_progress" => "deploy.started",
        "success" => "deploy.succeeded",
        "failure" | "error" => "deploy.failed",
        "queued" | "pending" | "waiting" => {
            return Ok(Translation::Ignored(format!(
                "deployment_status {state}: the deploy has not started"
            )));
        }
        "inactive" => {
            let why = "deployment_status inactive: a later deploy replaces it";
            return Ok(Translation::Ignored(why.to_owned()));
        }
        _ => return Err(status.fault_in("state", format!("{} is an unknown state", shown(state)))),
    };
    // A state can move the deployment to another environment.
    let named_by = if status.optional_text("environment")?.is_some() { &status } else { &deployment };
    if let Some(ignored) = ignored(context, &deployment, named_by.optional_text("environment")?)? {
        return Ok(ignored);
    }
    let task = deployment.optional_text("task")?.unwrap_or("deploy");
    let repository = Repository::read(context, root)?;
    let id = format!("deployment_status/{}", status.id("id")?);
    let at = context.time(&status, "created_at")?;
    let deployment_id = deployment.id("id")?;
    let href = status.hint("log_url").or(status.hint("target_url"));
    if !context.webhook.tasks.iter().any(|pattern| text::matches(pattern, task)) {
        let event = Draft::new("activity.reported", &repository.source, &id, at)
            .with("activity", "deployment.status")
            .with_line("subject", Some(&format!("{task} {deployment_id} of {}", repository.full_name)))
            .with_line("outcome", Some(state))
            .with_reason(Some("The task is none of tasks, and no deploy of a release."))
            .with_correlation(run_of(&status));
        return Ok(Translation::Events(vec![event.build()]));
    }
    let environment = context.environment(named_by, "environment")?;
    let lane = Lane::read(context, &repository, &deployment)?;
    let event = Draft::new(kind, &repository.source, &id, at)
        .with("environment", environment.as_str())
        .with("service", lane.service)
        .with_optional("target", lane.target)
        .with_optional("slot", lane.slot)
        .with("deployment", format!("deployment/{deployment_id}"))
        .with("release", lane.release.value())
        .with_actor(actor(deployment.get("creator").as_ref()))
        .with_reason(status.hint("description"))
        .with_link("pipeline", href)
        .with_link("environment", status.hint("environment_url"))
        .with_correlation(run_of(&status));
    Ok(Translation::Events(vec![event.build()]))
}

/// Returns the reason to ignore a deployment by its environment, if there is one.
fn ignored(
    context: Context<'_>,
    deployment: &Node<'_>,
    environment: Option<&str>,
) -> Result<Option<Translation>, NotUnderstood> {
    if deployment.flag("transient_environment")? && !context.webhook.transient_environments {
        let why = format!("the environment {:?} is transient", environment.unwrap_or_default());
        return Ok(Some(Translation::Ignored(why)));
    }
    Ok(context.ignored(environment))
}

/// The release that a deployment deploys, and its lane in the environment.
struct Lane {
    service: String,
    target: Option<String>,
    slot: Option<String>,
    release: ReleaseParts,
}

impl Lane {
    fn read(
        context: Context<'_>,
        repository: &Repository<'_>,
        deployment: &Node<'_>,
    ) -> Result<Self, NotUnderstood> {
        let commit = commit(deployment)?;
        let reference = deployment.optional_text("ref")?;
        let payload = payload(deployment);
        let payload = payload.as_ref().map(|value| Node::at(value, deployment.place("payload")));
        let read = |member, name: &'static str| match &payload {
            Some(payload) if context.webhook.payload.contains(&member) => Some((payload.clone(), name)),
            _ => None,
        };
        let version = match read(PayloadMember::Version, "version") {
            Some((node, name)) => stated_version(&node, name)?,
            None => None,
        };
        let rule = context.webhook.version;
        let version = version.unwrap_or_else(|| version_of(rule, reference, commit));
        check_version(&version, |detail| deployment.fault_in("ref", detail))?;
        let artifact = read(PayloadMember::Artifact, "artifact");
        let config = read(PayloadMember::Config, "config");
        let release = ReleaseParts {
            version,
            artifact: artifact.map(|(node, name)| release::artifact(&node, name)).transpose()?.flatten(),
            config: config.map(|(node, name)| release::config(&node, name)).transpose()?.flatten(),
            infrastructure: None,
            commit: Some(commit.to_owned()),
        };
        let service = match read(PayloadMember::Service, "service") {
            Some((node, name)) if node.get(name).is_some() => context.service(&node, name)?,
            _ => context.service(&repository.node, repository.service_member(context))?,
        };
        let target = match read(PayloadMember::Target, "target") {
            Some((node, name)) => context.target(&node, name)?,
            None => context.default_target(),
        };
        let slot = match read(PayloadMember::Slot, "slot") {
            Some((node, name)) => node.optional_text(name)?.map(str::to_owned),
            None => None,
        };
        Ok(Self { service: service.to_string(), target: target.map(|name| name.to_string()), slot, release })
    }
}

/// Returns the version that the payload states.
fn stated_version(payload: &Node<'_>, name: &str) -> Result<Option<String>, NotUnderstood> {
    let version = payload.optional_id(name)?;
    version.iter().try_for_each(|version| check_version(version, |detail| payload.fault_in(name, detail)))?;
    Ok(version)
}

/// Returns the full commit of a deployment.
fn commit<'m>(deployment: &Node<'m>) -> Result<&'m str, NotUnderstood> {
    let sha = deployment.text("sha")?;
    if text::is_full_commit(sha) {
        Ok(sha)
    } else {
        Err(deployment.fault_in("sha", "must be a full commit id"))
    }
}

/// Returns the payload of a deployment: an object, or a text with one.
fn payload(deployment: &Node<'_>) -> Option<Value> {
    let value = deployment.get("payload")?.value().clone();
    match value {
        Value::String(text) => serde_json::from_str(&text).ok().filter(Value::is_object),
        value => Some(value).filter(Value::is_object),
    }
}

/// Returns the address of the workflow run that deploys.
fn correlation<'m>(root: &Node<'m>) -> Option<&'m str> {
    root.get("workflow_run")?.hint("html_url")
}

/// Returns the address of the workflow run to whose log a status links. An exported status has the link too, and is then
/// the same event.
fn run_of<'m>(status: &Node<'m>) -> Option<&'m str> {
    let link = status.hint("log_url").or_else(|| status.hint("target_url"))?;
    let run = link.find(RUNS)? + RUNS.len();
    let digits = link[run..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| &link[..run + digits])
}

/// Returns a foreign word, quoted and shortened.
fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(64).collect::<String>())
}
