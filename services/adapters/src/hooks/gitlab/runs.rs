//! Pipelines and jobs of GitLab.

use super::{Project, actor};
use crate::hooks::checks::{Run, RunIdentity, RunOrigin, RunResult, Trigger, Verdict};
use crate::hooks::context::Context;
use crate::hooks::json::Node;
use crate::translation::{NotUnderstood, Translation};

/// Sources of pipelines that check what is deployed, and not what is proposed or merged. A pipeline that another has
/// started is none of them: that one may have run for a merge request.
const TRIGGERS: &[&str] = &["schedule", "api", "trigger", "web"];

/// A pipeline that has ended. Its job retries are behind it; a retry of the pipeline ends at another time.
pub(super) fn pipeline(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let pipeline = root.object("object_attributes")?;
    let status = pipeline.text("status")?;
    let Some(verdict) = verdict(status) else { return Ok(ignored("pipeline", status)) };
    let Some(ended_at) = context.optional_time(&pipeline, "finished_at")? else {
        return Ok(ignored("pipeline without a finished_at", status));
    };
    let project = Project::read(context, root)?;
    let trigger = match pipeline.optional_text("source")? {
        Some(source) if source.contains("merge_request") || source.contains("pull_request") => {
            Trigger::Change
        }
        _ if root.get("merge_request").is_some() => Trigger::Change,
        Some(source) => Trigger::Named(source),
        None => Trigger::Change,
    };
    let id = pipeline.id("id")?;
    let named = pipeline.hint("name");
    let ended = Run {
        identity: RunIdentity {
            event: "pipeline",
            activity: "pipelinerun.finished",
            // A pipeline without a name is named by its project.
            name: named.unwrap_or_else(|| project.service_name(context)),
            id: format!("pipeline/{id}/{}", ended_at.timestamp()),
            subject: format!("{}: pipeline {id}", project.path),
            href: pipeline.hint("url"),
            correlation: Some(page_of_pipeline(&project, &id)),
            source: project.source.clone(),
        },
        origin: RunOrigin {
            branch: branch(&pipeline)?,
            commit: pipeline.hint("sha"),
            actor: actor(root),
            ..origin(context, &project, trigger)
        },
        result: RunResult {
            verdict,
            outcome: status,
            started_at: context.optional_time(&pipeline, "created_at")?,
            ended_at,
        },
    };
    ended.events(context).map(Translation::Events)
}

/// A job that has ended. A retry is another job.
pub(super) fn job(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let status = root.text("build_status")?;
    let Some(verdict) = verdict(status) else { return Ok(ignored("job", status)) };
    let Some(ended_at) = context.optional_time(root, "build_finished_at")? else {
        return Ok(ignored("job without a build_finished_at", status));
    };
    // A job that may fail says nothing by its failure.
    let is_tolerated = root.flag("build_allow_failure")? && verdict == Verdict::Failed;
    let project = Project::read(context, root)?;
    let reference = branch(root)?;
    let is_change = reference.is_some_and(|name| name.starts_with("refs/merge-requests/"));
    let id = root.id("build_id")?;
    let name = root.text("build_name")?;
    let pipeline = root.optional_id("pipeline_id")?;
    let href = format!("{}/-/jobs/{id}", project.source);
    let ended = Run {
        identity: RunIdentity {
            event: "job",
            activity: "taskrun.finished",
            name,
            id: format!("job/{id}/{status}"),
            subject: format!("{}: job {name} {id}", project.path),
            href: Some(href.as_str()),
            correlation: pipeline.map(|id| page_of_pipeline(&project, &id)),
            source: project.source.clone(),
        },
        origin: RunOrigin {
            branch: reference,
            commit: root.hint("sha"),
            actor: actor(root),
            ..origin(context, &project, if is_change { Trigger::Change } else { Trigger::Unknown })
        },
        result: RunResult {
            verdict: if is_tolerated { Verdict::Inconclusive } else { verdict },
            outcome: status,
            started_at: context.optional_time(root, "build_started_at")?,
            ended_at,
        },
    };
    ended.events(context).map(Translation::Events)
}

/// Returns the origin of a run of a project, as far as pipelines and jobs state it alike.
fn origin<'p>(context: Context<'_>, project: &'p Project, trigger: Trigger<'p>) -> RunOrigin<'p> {
    RunOrigin {
        trigger,
        default_triggers: TRIGGERS,
        branch: None,
        default_branch: project.default_branch.as_deref(),
        repository: project.service_name(context),
        repository_place: "/project",
        commit: None,
        actor: None,
    }
}

/// Returns the page of a pipeline, which it shares with its jobs.
fn page_of_pipeline(project: &Project, id: &str) -> String {
    format!("{}/-/pipelines/{id}", project.source)
}

/// Returns the branch; `None` for a tag, so that a tag is never taken for the branch of its name.
fn branch<'m>(node: &Node<'m>) -> Result<Option<&'m str>, NotUnderstood> {
    let reference = node.optional_text("ref")?;
    Ok(if node.flag("tag")? { None } else { reference })
}

fn ignored(what: &str, status: &str) -> Translation {
    let status: String = status.chars().take(64).collect();
    Translation::Ignored(format!("{what} {status:?}: only ended ones are recorded"))
}

/// Returns how a run ended; `None` if it has not.
fn verdict(status: &str) -> Option<Verdict> {
    match status {
        "success" => Some(Verdict::Passed),
        "failed" => Some(Verdict::Failed),
        "canceled" | "skipped" => Some(Verdict::Inconclusive),
        _ => None,
    }
}
