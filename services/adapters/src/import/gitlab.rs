//! Deployments of GitLab: pages of `GET /projects/{id}/deployments`.
//!
//! A row has the latest state of a deployment only. It becomes the body of a deployment webhook, as GitLab would have
//! sent it when that state was reached, and is translated by the reader of webhooks.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::imported::{Collector, Imported};
use super::json_stream::{id, items, member, text};
use crate::hooks::{self, Request, Webhook};
use crate::translation::{NotUnderstood, Translation};

/// Translates exported deployments of one project. `translate` translates the body of a deployment webhook.
///
/// `project_url` is the address of the project for people, such as `https://gitlab.example/group/web`. Rows of
/// deployments that no job made do not state it; if it is `None`, such a row is a problem.
fn read(
    file: &str,
    project_url: Option<&str>,
    mut translate: impl FnMut(&Value) -> Result<Translation, NotUnderstood>,
) -> Imported {
    let mut collector = Collector::default();
    for (row, item) in (1..).zip(items(file)) {
        match item.and_then(|item| webhook(&item, project_url)) {
            Ok(body) => collector.add(row, translate(&body)),
            Err(detail) => collector.problem(row, detail),
        }
    }
    collector.finish()
}

/// Translates exported deployments as the webhook of the kind `gitlab` translates their states.
#[must_use]
pub fn read_as_webhook(
    file: &str,
    project_url: Option<&str>,
    webhook: &Webhook,
    now: DateTime<Utc>,
) -> Imported {
    read(file, project_url, |body| {
        hooks::translate(webhook, &Request::new([], body.to_string().as_bytes()), now)
    })
}

/// Returns the body of the webhook that GitLab sends for the state of a deployment.
fn webhook(row: &Value, project_url: Option<&str>) -> Result<Value, String> {
    if let Some(message) = text(row, "message").filter(|_| member(row, "environment").is_none()) {
        return Err(format!("the row is an answer of GitLab, not a deployment: {message}"));
    }
    let deployment = id(row, "id").ok_or("id is missing: the row is no deployment")?;
    let status = text(row, "status").ok_or("status is missing: the row is no deployment")?;
    let sha = text(row, "sha").ok_or("sha is missing: the row is no deployment")?;
    let environment = member(row, "environment").ok_or("environment is missing: the row is no deployment")?;
    let job = member(row, "deployable");
    let url = match (project_of(job), project_url) {
        (Some(stated), Some(given)) if stated != given.trim_end_matches('/') => {
            return Err(format!("the deployment is one of {stated}, not of {given}"));
        }
        (Some(stated), _) => stated,
        (None, Some(given)) => given.trim_end_matches('/').to_owned(),
        (None, None) => {
            return Err("the deployment was made by no job: give the address of its project".to_owned());
        }
    };
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    let name = path.and_then(|path| path.rsplit('/').next());
    let changed_at = changed_at(row, job, status).ok_or("updated_at is missing: the row is no deployment")?;
    let commit = job.and_then(|job| member(job, "commit"));
    let user = member(row, "user").or_else(|| job.and_then(|job| member(job, "user")));
    Ok(json!({
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": changed_at,
        "deployment_id": deployment.parse::<u64>().map_or_else(|_| Value::from(deployment.as_str()), Value::from),
        "deployable_id": job.and_then(|job| member(job, "id")),
        "deployable_url": job.and_then(|job| text(job, "web_url")),
        "environment": text(environment, "name"),
        "environment_external_url": text(environment, "external_url"),
        "project": { "web_url": url, "path_with_namespace": path, "name": name },
        "ref": text(row, "ref"),
        "short_sha": sha.get(..8).unwrap_or(sha),
        "commit_url": format!("{url}/-/commit/{sha}"),
        "commit_title": commit.and_then(|commit| text(commit, "title")),
        "user": user,
    }))
}

/// Returns the time at which a deployment reached its state: the end of its job, or the last change of the row.
fn changed_at<'v>(row: &'v Value, job: Option<&'v Value>, status: &str) -> Option<&'v str> {
    let of_job = |name| job.and_then(|job| text(job, name));
    let time = match status {
        "success" | "failed" | "canceled" => text(row, "finished_at").or_else(|| of_job("finished_at")),
        "running" => of_job("started_at"),
        _ => None,
    };
    time.or_else(|| text(row, "updated_at")).or_else(|| text(row, "created_at"))
}

/// Returns the address of the project by that of its job or its pipeline.
fn project_of(job: Option<&Value>) -> Option<String> {
    let job = job?;
    let of_job = text(job, "web_url").and_then(|url| before(url, &["/-/jobs/", "/-/builds/", "/builds/"]));
    let pipeline = || {
        text(member(job, "pipeline")?, "web_url")
            .and_then(|url| before(url, &["/-/pipelines/", "/pipelines/"]))
    };
    of_job.or_else(pipeline)
}

fn before(url: &str, separators: &[&str]) -> Option<String> {
    separators.iter().find_map(|separator| url.rsplit_once(separator)).map(|(project, _)| project.to_owned())
}

#[cfg(test)]
mod tests;
