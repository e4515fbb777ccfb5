//! Reviews of deployments at GitHub: activities. A webhook may not approve: its sender is GitHub, and not the person who
//! reviewed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Repository, actor};
use crate::hooks::context::Context;
use crate::hooks::draft::Draft;
use crate::hooks::json::Node;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood, Translation};

/// A review that was given or requested.
struct Review<'m> {
    repository: Repository<'m>,
    run: Node<'m>,
    run_id: String,
    action: &'m str,
    reviewer: Option<(&'static str, &'m str)>,
    comment: Option<&'m str>,
    at: DateTime<Utc>,
}

pub(super) fn translate(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let action = root.text("action")?;
    let is_given = match action {
        "approved" | "rejected" => true,
        "requested" => false,
        _ => return Ok(Translation::Ignored(format!("deployment_review {action} is not recorded"))),
    };
    let run = root.object("workflow_run")?;
    let reviewer = root.optional_object(if is_given { "approver" } else { "requestor" })?;
    let review = Review {
        repository: Repository::read(context, root)?,
        run_id: format!(
            "{}/{}",
            run.id("id")?,
            run.optional_id("run_attempt")?.unwrap_or_else(|| "1".to_owned())
        ),
        run,
        action,
        reviewer: actor(reviewer.as_ref()),
        comment: root.hint("comment"),
        at: latest(context, root)?,
    };
    let environments = environments(root)?;
    let ignored = environments.iter().map(|name| context.ignored(Some(name)));
    if let Some(Some(ignored)) = ignored.reduce(|first, next| next.and(first)) {
        return Ok(ignored);
    }
    Ok(Translation::Events(vec![review.activity(context, &environments)]))
}

impl Review<'_> {
    fn activity(&self, context: Context<'_>, environments: &BTreeSet<String>) -> NativeEvent {
        let only = environments.first().filter(|_| environments.len() == 1);
        let environment = context.known_environment(only.map(String::as_str));
        let names: Vec<_> = environments.iter().map(String::as_str).collect();
        let names = names.join(", ");
        let id = format!("deployment_review/{}/{}/{}/{names}", self.run_id, self.action, self.at.timestamp());
        let subject = format!("run {} of {}: {names}", self.run_id, self.repository.full_name);
        Draft::new("activity.reported", &self.repository.source, &id, self.at)
            .with("activity", format!("deployment_review.{}", self.action))
            .with_line("subject", Some(&subject))
            .with_optional("environment", environment.map(|name| name.to_string()))
            .with_optional("commit", self.run.hint("head_sha").filter(|sha| text::is_full_commit(sha)))
            .with_actor(self.reviewer)
            .with_reason(self.comment)
            .with_link("pipeline", self.run.hint("html_url"))
            .with_correlation(self.run.hint("html_url"))
            .build()
    }
}

/// Returns the environments that a review is about: those of the jobs that wait for it.
fn environments(root: &Node<'_>) -> Result<BTreeSet<String>, NotUnderstood> {
    let mut jobs = root.items("workflow_job_runs")?;
    jobs.extend(root.optional_object("workflow_job_run")?);
    let mut names = BTreeSet::new();
    for job in jobs.iter().chain([root]) {
        names.extend(job.optional_text("environment")?.map(str::to_owned));
    }
    Ok(names)
}

/// Returns the time of a review: the latest that its message states, since none is that of the review itself.
fn latest(context: Context<'_>, root: &Node<'_>) -> Result<DateTime<Utc>, NotUnderstood> {
    let since = context.time(root, "since")?;
    let mut nodes = root.items("workflow_job_runs")?;
    nodes.extend(root.optional_object("workflow_job_run")?);
    nodes.extend(root.optional_object("workflow_run")?);
    let mut latest = since;
    for node in nodes {
        latest = latest.max(context.optional_time(&node, "updated_at")?.unwrap_or(since));
    }
    Ok(latest)
}
