//! Workflow runs, check suites and check runs of GitHub.

use chrono::{DateTime, Utc};

use super::{Repository, actor};
use crate::hooks::checks::{Run, RunIdentity, RunOrigin, RunResult, Trigger, Verdict};
use crate::hooks::context::Context;
use crate::hooks::json::Node;
use crate::translation::{NotUnderstood, Translation};

/// Triggers of runs that check what is deployed, and not what is proposed or merged. A run after a deploy is none of
/// them: it may have been a deploy to another environment, such as a preview. Nor is a run after another run.
const TRIGGERS: &[&str] = &["schedule", "workflow_dispatch", "repository_dispatch"];

/// A workflow run that is completed. A new attempt has another identity.
pub(super) fn workflow_run(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let repository = Repository::read(context, root)?;
    let run = root.object("workflow_run")?;
    let attempt = run.optional_id("run_attempt")?.unwrap_or_else(|| "1".to_owned());
    let workflow = root.optional_object("workflow")?;
    let name = workflow.as_ref().and_then(|workflow| workflow.hint("name")).or(run.hint("name"));
    let number = run.optional_id("run_number")?.unwrap_or_default();
    let conclusion = run.optional_text("conclusion")?.unwrap_or("unknown");
    let head = run.optional_object("head_repository")?;
    let head_name = head.as_ref().and_then(|head| head.hint("full_name"));
    let is_fork = head_name != Some(repository.full_name);
    let trigger = match run.optional_text("event")? {
        Some(event) if !(event.starts_with("pull_request") || event == "merge_group" || is_fork) => {
            Trigger::Named(event)
        }
        _ => Trigger::Change,
    };
    let name = name.unwrap_or_default();
    let href = run.hint("html_url");
    let ended = Run {
        origin: RunOrigin {
            branch: run.optional_text("head_branch")?,
            commit: run.hint("head_sha"),
            actor: actor(run.get("triggering_actor").or_else(|| run.get("actor")).as_ref()),
            ..origin(context, &repository, trigger)?
        },
        result: result(
            conclusion,
            context.optional_time(&run, "run_started_at")?,
            context.time(&run, "updated_at")?,
        ),
        identity: RunIdentity {
            event: "workflow_run",
            activity: "pipelinerun.finished",
            name,
            id: format!("workflow_run/{}/{attempt}", run.id("id")?),
            subject: format!("{}: {name} #{number}", repository.full_name),
            href,
            correlation: href.map(str::to_owned),
            source: repository.source,
        },
    };
    ended.events(context).map(Translation::Events)
}

/// A check run that is completed. Its pull requests and the branch of its suite state its subject.
pub(super) fn check_run(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let repository = Repository::read(context, root)?;
    let run = root.object("check_run")?;
    let suite = run.optional_object("check_suite")?;
    let name = run.text("name")?;
    let conclusion = run.optional_text("conclusion")?.unwrap_or("unknown");
    let has_change = suite_has_change(suite.as_ref())? || !run.items("pull_requests")?.is_empty();
    let ended_at = context.time(&run, "completed_at")?;
    let ended = Run {
        origin: RunOrigin {
            branch: suite.as_ref().and_then(|suite| suite.hint("head_branch")),
            commit: run.hint("head_sha"),
            actor: actor_of_app(&run),
            ..origin(context, &repository, trigger_of(has_change))?
        },
        result: result(conclusion, context.optional_time(&run, "started_at")?, ended_at),
        identity: RunIdentity {
            event: "check_run",
            activity: "taskrun.finished",
            name,
            // A check run can be reset and completed again under its id.
            id: format!("check_run/{}/{}", run.id("id")?, ended_at.timestamp()),
            subject: format!("{}: {name}", repository.full_name),
            href: run.hint("html_url"),
            correlation: None,
            source: repository.source,
        },
    };
    ended.events(context).map(Translation::Events)
}

/// A check suite that is completed: all check runs of an app for a commit. It is named by its app.
pub(super) fn check_suite(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let repository = Repository::read(context, root)?;
    let suite = root.object("check_suite")?;
    let app = suite.optional_object("app")?;
    let name = app.as_ref().and_then(|app| app.hint("name")).unwrap_or_default();
    let conclusion = suite.optional_text("conclusion")?.unwrap_or("unknown");
    let has_change = suite_has_change(Some(&suite))?;
    let ended_at = context.time(&suite, "updated_at")?;
    let ended = Run {
        origin: RunOrigin {
            branch: suite.optional_text("head_branch")?,
            commit: suite.hint("head_sha"),
            actor: actor_of_app(&suite),
            ..origin(context, &repository, trigger_of(has_change))?
        },
        result: result(conclusion, context.optional_time(&suite, "created_at")?, ended_at),
        identity: RunIdentity {
            event: "check_suite",
            activity: "checksuite.finished",
            name,
            id: format!("check_suite/{}/{}", suite.id("id")?, ended_at.timestamp()),
            subject: format!("{}: {name}", repository.full_name),
            href: None,
            correlation: None,
            source: repository.source,
        },
    };
    ended.events(context).map(Translation::Events)
}

/// Returns the origin of a run of a repository, as far as all kinds of runs state it alike.
fn origin<'m>(
    context: Context<'_>,
    repository: &Repository<'m>,
    trigger: Trigger<'m>,
) -> Result<RunOrigin<'m>, NotUnderstood> {
    Ok(RunOrigin {
        trigger,
        default_triggers: TRIGGERS,
        branch: None,
        default_branch: repository.node.hint("default_branch"),
        repository: repository.service_name(context)?,
        repository_place: "/repository/name",
        commit: None,
        actor: None,
    })
}

fn result(conclusion: &str, started_at: Option<DateTime<Utc>>, ended_at: DateTime<Utc>) -> RunResult<'_> {
    RunResult { verdict: verdict(conclusion), outcome: conclusion, started_at, ended_at }
}

/// Returns the trigger of a check run or a suite, which do not state theirs.
const fn trigger_of(has_change: bool) -> Trigger<'static> {
    if has_change { Trigger::Change } else { Trigger::Unknown }
}

/// Returns true if a suite ran for a pull request, or for a commit whose branch is not in this repository.
fn suite_has_change(suite: Option<&Node<'_>>) -> Result<bool, NotUnderstood> {
    match suite {
        Some(suite) => Ok(!suite.items("pull_requests")?.is_empty() || suite.hint("head_branch").is_none()),
        None => Ok(true),
    }
}

fn actor_of_app<'m>(node: &Node<'m>) -> Option<(&'static str, &'m str)> {
    Some(("workload", node.get("app")?.hint("slug").or(node.get("app")?.hint("name"))?))
}

/// Only a success passes and only a failure fails: a run that was cancelled, skipped, neutral, stale or timed out, or did
/// not start, has shown nothing.
fn verdict(conclusion: &str) -> Verdict {
    match conclusion {
        "success" => Verdict::Passed,
        "failure" => Verdict::Failed,
        _ => Verdict::Inconclusive,
    }
}
