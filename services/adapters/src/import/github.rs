//! Deployments of GitHub: pages of `GET /repos/{owner}/{repo}/deployments` and of `…/deployments/{id}/statuses`.
//!
//! A deployment states the release and a status its outcome, so both are needed. Statuses stand in the file themselves,
//! in any order, or embedded in their deployment as the member `statuses`. Each status becomes the body of a
//! `deployment_status` webhook, as GitHub would have sent it, and is translated by the reader of webhooks: an event that
//! a webhook recorded has the same identity.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::imported::{Collector, Imported};
use super::json_stream::{id, items, member, text};
use crate::hooks::{self, Request, Webhook};
use crate::translation::{NotUnderstood, Translation};

/// The part of an address between that of the repository and the id of the deployment.
const DEPLOYMENTS: &str = "/deployments/";

/// A deployment of a file.
struct Deployment {
    row: u64,
    value: Value,
    statuses: u64,
}

/// Translates exported deployments. `translate` translates the body of a `deployment_status` webhook.
fn read(file: &str, mut translate: impl FnMut(&Value) -> Result<Translation, NotUnderstood>) -> Imported {
    let mut collector = Collector::default();
    let mut deployments: HashMap<(String, String), Deployment> = HashMap::new();
    let mut statuses = Vec::new();
    for (row, item) in (1..).zip(items(file)) {
        match item {
            Ok(value) => sort(row, value, &mut deployments, &mut statuses, &mut collector),
            Err(detail) => collector.problem(row, detail),
        }
    }
    for (row, key, status) in statuses {
        let Some(deployment) = deployments.get_mut(&key) else {
            let (repository, id) = key;
            collector.problem(
                row,
                format!("the deployment {id} of {repository} is not in the file: export it too"),
            );
            continue;
        };
        deployment.statuses += 1;
        let body = webhook(&key.0, &deployment.value, status);
        collector.add(row, translate(&body));
    }
    for deployment in deployments.values().filter(|deployment| deployment.statuses == 0) {
        let detail = "the deployment has no status in the file, so its outcome is not known";
        collector.ignore(deployment.row, detail);
    }
    collector.finish()
}

/// Translates exported deployments as the webhook of the kind `github` translates their statuses.
#[must_use]
pub fn read_as_webhook(file: &str, webhook: &Webhook, now: DateTime<Utc>) -> Imported {
    read(file, |body| {
        let headers = [("X-GitHub-Event", "deployment_status")];
        hooks::translate(webhook, &Request::new(headers, body.to_string().as_bytes()), now)
    })
}

/// A status: its row, the key of its deployment, and itself.
type Status = (u64, (String, String), Value);

/// Puts an item where it belongs: a deployment with its embedded statuses, or a status.
fn sort(
    row: u64,
    mut value: Value,
    deployments: &mut HashMap<(String, String), Deployment>,
    statuses: &mut Vec<Status>,
    collector: &mut Collector,
) {
    if let Some((repository, deployment)) =
        text(&value, "deployment_url").and_then(|url| url.rsplit_once(DEPLOYMENTS))
    {
        statuses.push((row, (repository.to_owned(), deployment.to_owned()), value));
        return;
    }
    let in_url =
        || text(&value, "url").and_then(|url| url.rsplit_once(DEPLOYMENTS)).map(|(repository, _)| repository);
    let Some(repository) = text(&value, "repository_url").or_else(in_url).map(str::to_owned) else {
        let detail = match text(&value, "message") {
            Some(message) => format!("the row is an answer of GitHub, not a deployment: {message}"),
            None => "the row has no repository_url: it is neither a deployment nor a status".to_owned(),
        };
        return collector.problem(row, detail);
    };
    let Some(id) = id(&value, "id").filter(|_| member(&value, "sha").is_some()) else {
        return collector.problem(row, "the row has no id and sha: it is neither a deployment nor a status");
    };
    let key = (repository, id);
    let embedded = value.as_object_mut().and_then(|members| members.remove("statuses"));
    if let Some(Value::Array(embedded)) = embedded {
        statuses.extend(embedded.into_iter().map(|status| (row, key.clone(), status)));
    }
    // A deployment that several pages contain is the same one.
    deployments.entry(key).or_insert(Deployment { row, value, statuses: 0 });
}

/// Returns the body of the webhook that GitHub sends for a status.
fn webhook(repository_url: &str, deployment: &Value, status: Value) -> Value {
    let (html_url, full_name) = repository(repository_url);
    let name = full_name.rsplit('/').next().unwrap_or(&full_name).to_owned();
    json!({
        "action": "created",
        "deployment": deployment,
        "deployment_status": status,
        "repository": { "full_name": full_name, "name": name, "html_url": html_url },
    })
}

/// Returns the address of a repository for people, and owner and name, by its address in the API:
/// `https://api.github.com/repos/OWNER/NAME`, or `https://HOST/api/v3/repos/OWNER/NAME` at a server of one's own.
fn repository(url: &str) -> (String, String) {
    let (base, full_name) = url.split_once("/repos/").unwrap_or(("", url));
    let base = base.strip_suffix("/api/v3").unwrap_or(base);
    let base = match base.split_once("://api.") {
        Some((scheme, host)) => format!("{scheme}://{host}"),
        None => base.to_owned(),
    };
    (format!("{base}/{full_name}"), full_name.to_owned())
}

#[cfg(test)]
mod tests;
