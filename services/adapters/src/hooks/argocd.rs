//! Notifications of Argo CD, by the template in `ops/integrations/argocd`.
//!
//! The message is the application with its last sync operation. `Running` is the start of a deploy; `Succeeded` its end as
//! soon as the application is healthy; `Failed` and `Error` its end without success. A degraded application is an
//! incident. Argo CD sends the same operation again for other reasons, so that everything in an event is taken from the
//! operation itself.

mod application;

use serde_json::{Value, json};

use self::application::{Application, Lane};
use super::context::Context;
use super::draft::Draft;
use super::json::Node;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood, Translation};

/// Finalizers with which Argo CD deletes what an application has deployed.
const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";

/// Translates a delivery.
pub(super) fn translate(context: Context<'_>, body: &Value) -> Result<Translation, NotUnderstood> {
    let root = Node::root(body);
    let application = Application::read(context, &root)?;
    if let Some(ignored) = context.ignored(application.foreign_environment(context).as_deref()) {
        return Ok(ignored);
    }
    if application.metadata.optional_text("deletionTimestamp")?.is_some() {
        return deletion(context, &application).map(|event| Translation::Events(vec![event]));
    }
    let mut events: Vec<_> = operation(context, &application)?.into_iter().collect();
    events.extend(health(context, &application)?);
    if events.is_empty() {
        let (phase, health) =
            (application.phase()?.unwrap_or("none"), application.health()?.unwrap_or("none"));
        let why = format!("sync operation {phase:?}, health {health:?}: no deploy has started or ended");
        return Ok(Translation::Ignored(why));
    }
    Ok(Translation::Events(events))
}

/// The last sync operation as the start or the end of a deploy.
fn operation(
    context: Context<'_>,
    application: &Application<'_>,
) -> Result<Option<NativeEvent>, NotUnderstood> {
    let (Some(operation), Some(phase)) = (&application.operation, application.phase()?) else {
        return Ok(None);
    };
    let (kind, time) = match (phase, application.health()?) {
        ("Running", _) => ("deploy.started", "startedAt"),
        ("Succeeded", Some("Healthy")) => ("deploy.succeeded", "finishedAt"),
        ("Failed" | "Error", _) => ("deploy.failed", "finishedAt"),
        _ => return Ok(None),
    };
    let sync = operation.get("operation").and_then(|requested| requested.get("sync"));
    let sync = sync.as_ref();
    let at = context.time(operation, time)?;
    let started_at = context.optional_time(operation, "startedAt")?.unwrap_or(at);
    let id = format!("{}/sync/{}/{}", application.id, started_at.timestamp(), phase.to_ascii_lowercase());
    if let Some(sync) = sync {
        if sync.flag("dryRun")? {
            return Ok(None);
        }
        if !sync.items("resources")?.is_empty() {
            let reason = "Some resources of the application were synced, and not the whole application.";
            return Ok(Some(application.activity("sync.partial", &id, at, Some(phase), Some(reason))));
        }
    }
    let Some(release) = application.release(context)? else {
        let reason = "The operation states no revision.";
        return Ok(Some(application.activity("sync", &id, at, Some(phase), Some(reason))));
    };
    if kind == "deploy.started" && application.is_versioned_by_image(context)? {
        return Ok(None);
    }
    let lane = application.lane(context)?;
    let reason = if kind == "deploy.failed" { operation.hint("message") } else { None };
    let release = release.value();
    // An operation is sent again after its images have changed.
    let id = format!("{id}/{}", fingerprint(&json!([release, reason])));
    let event = Draft::new(kind, &application.source, &id, at);
    let event = in_lane(event, &lane)
        .with("deployment", text::id(&format!("{}/{}", application.name, started_at.timestamp())))
        .with("release", release)
        .with_actor(application.initiator())
        .with_reason(reason)
        .with_link("application", application.href.as_deref());
    Ok(Some(event.build()))
}

/// The health of the application as an incident, or as a failed check where the settings map it.
fn health(context: Context<'_>, application: &Application<'_>) -> Result<Vec<NativeEvent>, NotUnderstood> {
    let Some(health) = &application.health else { return Ok(Vec::new()) };
    let since = context.optional_time(health, "lastTransitionTime")?;
    let since =
        since.map_or_else(|| context.optional_time(&application.root, "timestamp"), |at| Ok(Some(at)))?;
    let (Some(status), Some(since)) = (application.health()?, since) else { return Ok(Vec::new()) };
    let degraded = status == "Degraded";
    if !(degraded || status == "Healthy" && recovers(context, application, since)?) {
        return Ok(Vec::new());
    }
    let lane = application.lane(context)?;
    let id = format!("{}/health/{}/{}", application.id, since.timestamp(), status.to_ascii_lowercase());
    let check = context.webhook.check("health", application.name).filter(|_| degraded);
    let synced = if application.phase()? == Some("Succeeded") { application.release(context)? } else { None };
    let event = match (check, synced) {
        // The check is of what was synced. Without it, it would be of the former release: this one was never healthy.
        (Some(check), Some(release)) => {
            let release = release.value();
            let id_of_release = format!("{id}/{}", fingerprint(&release));
            in_lane(Draft::new("validation.failed", &application.source, &id_of_release, since), &lane)
                .with("release", release)
                .with("check", check.check.as_str())
                .with("run", text::id(&id))
                .with_actor(Some(("workload", "argocd")))
        }
        _ => {
            let kind = if degraded { "incident.opened" } else { "incident.resolved" };
            let title = format!("{} is degraded", application.name);
            let draft = in_lane(Draft::new(kind, &application.source, &id, since), &lane)
                .with("incident_id", text::id(&format!("argocd/{}/degraded", application.id)));
            if degraded { draft.with_line("title", Some(&title)) } else { draft }
        }
    };
    Ok(vec![event.with_link("application", application.href.as_deref()).build()])
}

/// Returns true if the application became healthy after its last operation, and the settings let that resolve incidents.
fn recovers(
    context: Context<'_>,
    application: &Application<'_>,
    since: chrono::DateTime<chrono::Utc>,
) -> Result<bool, NotUnderstood> {
    let Some(operation) = &application.operation else { return Ok(false) };
    let finished = context.optional_time(operation, "finishedAt")?;
    Ok(context.webhook.argocd.resolves_incidents && finished.is_some_and(|finished| since > finished))
}

/// The deletion of the application removes what it has deployed only if it cascades.
fn deletion(context: Context<'_>, application: &Application<'_>) -> Result<NativeEvent, NotUnderstood> {
    let at = context.time(&application.metadata, "deletionTimestamp")?;
    let id = format!("{}/deleted/{}", application.id, at.timestamp());
    let finalizers = application.metadata.items("finalizers")?;
    let mut finalizers = finalizers.iter().filter_map(|finalizer| finalizer.value().as_str());
    if !finalizers.any(|finalizer| finalizer.starts_with(CASCADE)) {
        let reason = "The deletion does not cascade: what the application deployed may still run.";
        return Ok(application.activity("application.deleted", &id, at, None, Some(reason)));
    }
    let lane = application.lane(context)?;
    let event = in_lane(Draft::new("deploy.removed", &application.source, &id, at), &lane)
        .with_link("application", application.href.as_deref());
    Ok(event.build())
}

fn in_lane(draft: Draft, lane: &Lane) -> Draft {
    draft
        .with("environment", lane.environment.as_str())
        .with("service", lane.service.as_str())
        .with_optional("target", lane.target.as_ref().map(|name| name.as_str()))
}

/// Returns a short digest of what may differ between two messages about one operation.
fn fingerprint(content: &Value) -> String {
    text::digest(&content.to_string())["sha256:".len()..][..12].to_owned()
}

#[cfg(test)]
mod tests;
