//! Notifications of Alertmanager, payload version 4: one event for each alert of the group.
//!
//! An alert is an incident: `firing` opens it, `resolved` resolves it. An alert that the settings map to a check fails
//! that check of its lane when it fires. Its end does not pass the check: an alert also ends because the release that
//! caused it was rolled back.
//!
//! An alert that cannot be understood does not hold up the others of its notification: only it is quarantined.
//!
//! Alertmanager repeats a notification while an alert fires, and its annotations may have changed by then. Everything in
//! an event is therefore taken from the labels and the start of the alert, which identify it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::context::Context;
use super::draft::{Draft, check_event};
use super::json::Node;
use super::settings::CheckMapping;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood, PartialTranslation, Translation};

/// An alert of a notification.
struct Alert<'m> {
    node: Node<'m>,
    labels: Node<'m>,
    name: &'m str,
    is_firing: bool,
    /// Identifies the alert from its start to its end.
    id: String,
    starts_at: DateTime<Utc>,
    source: String,
}

/// Translates a delivery.
pub(super) fn translate(context: Context<'_>, body: &Value) -> Result<Translation, NotUnderstood> {
    let root = Node::root(body);
    if let Some(version) =
        root.optional_id("version")?.filter(|version| !matches!(version.as_str(), "4" | "1"))
    {
        let version: String = version.chars().take(16).collect();
        return Err(root.fault_in("version", format!("{version:?} is unknown; only version 4 is supported")));
    }
    root.get("alerts").ok_or_else(|| root.fault_in("alerts", "is required, and must be an array"))?;
    let mut events = Vec::new();
    let mut ignored = Vec::new();
    let mut faulty = Vec::new();
    let mut fault = None;
    for item in root.items("alerts")? {
        // The place that the alert has in the message of the faulty ones, should it be faulty.
        let node = Node::at(item.value(), format!("/alerts/{}", faulty.len()));
        match meaning(context, &node) {
            Ok(Meaning::Event(event)) => events.push(event),
            Ok(Meaning::Ignored(environment)) => ignored.push(environment),
            Err(error) => {
                faulty.push(node.value().clone());
                fault.get_or_insert(error);
            }
        }
    }
    if let Some(fault) = fault {
        if events.is_empty() && ignored.is_empty() {
            return Err(fault);
        }
        let mut rest = body.clone();
        rest["alerts"] = Value::Array(faulty);
        let rest = rest.to_string().into_bytes();
        return Ok(Translation::Partial(Box::new(PartialTranslation { events, rest, fault })));
    }
    match (events.is_empty(), ignored.first()) {
        (false, _) => Ok(Translation::Events(events)),
        (true, Some(name)) => {
            Ok(Translation::Ignored(format!("the environment {name:?} is one of ignored_environments")))
        }
        (true, None) => Ok(Translation::Ignored("the notification has no alerts".to_owned())),
    }
}

/// The meaning of an alert.
enum Meaning {
    Event(NativeEvent),
    /// Its environment, by this name, is not recorded.
    Ignored(String),
}

/// Returns the meaning of an alert.
fn meaning(context: Context<'_>, node: &Node<'_>) -> Result<Meaning, NotUnderstood> {
    let alert = Alert::read(context, node)?;
    let environment = alert.label(context, |alerts| &alerts.environment_labels);
    if let Some(name) = context.ignored_environment(environment) {
        return Ok(Meaning::Ignored(name));
    }
    let event = alert.event(context)?;
    check_event(&event).map_err(|error| node.fault(error.detail))?;
    Ok(Meaning::Event(event))
}

impl<'m> Alert<'m> {
    fn read(context: Context<'_>, node: &Node<'m>) -> Result<Self, NotUnderstood> {
        let labels = node.object("labels")?;
        let status = node.text("status")?;
        let is_firing = match status {
            "firing" => true,
            "resolved" => false,
            _ => return Err(node.fault_in("status", "must be firing or resolved")),
        };
        let starts_at = context.time(node, "startsAt")?;
        let fingerprint =
            node.optional_text("fingerprint")?.map_or_else(|| fingerprint(&labels), str::to_owned);
        Ok(Self {
            name: labels.hint("alertname").unwrap_or("alert"),
            is_firing,
            id: text::id(&format!("{fingerprint}/{}", super::time::format(starts_at))),
            starts_at,
            // Replicas of Alertmanager have different addresses, and send the same alerts.
            source: context.source("alertmanager"),
            labels,
            node: node.clone(),
        })
    }

    fn event(&self, context: Context<'_>) -> Result<NativeEvent, NotUnderstood> {
        if let Some(check) = context.webhook.check("alert", self.name) {
            return self.check(context, check);
        }
        let check = context.webhook.alerts.check_label.as_ref().and_then(|label| self.labels.hint(label));
        if let Some(check) = check {
            return self.check(context, &CheckMapping::of_alert(check));
        }
        let names = &context.webhook.names;
        let environment = names.environment(self.label(context, |alerts| &alerts.environment_labels));
        let service = names.optional_service(self.label(context, |alerts| &alerts.service_labels));
        let target = names.target(self.label(context, |alerts| &alerts.target_labels));
        let (Ok(environment), Ok(service), Ok(target)) = (environment, service, target) else {
            return Ok(
                self.activity("The labels of the alert name no environment and service of the ledger.")
            );
        };
        let kind = if self.is_firing { "incident.opened" } else { "incident.resolved" };
        let draft = self
            .draft(context, kind)?
            .with("environment", environment.as_str())
            .with_optional("target", target.filter(|_| service.is_some()).map(|name| name.to_string()))
            .with_optional("service", service.map(|name| name.to_string()))
            .with("incident_id", self.id.as_str());
        if !self.is_firing {
            return Ok(draft.build());
        }
        let severity = self.labels.hint(&context.webhook.alerts.severity_label);
        Ok(draft.with_line("title", Some(self.name)).with_line("severity", severity).build())
    }

    /// An alert of a check. The check is failed only for a lane that the labels or the settings name.
    fn check(&self, context: Context<'_>, check: &CheckMapping) -> Result<NativeEvent, NotUnderstood> {
        if !self.is_firing {
            return Ok(self.activity("The end of an alert does not pass its check."));
        }
        let names = &context.webhook.names;
        let fault = |error: crate::names::UnmappedName| self.labels.fault(error.to_string());
        let environment = match &check.environment {
            Some(name) => name.clone(),
            None => {
                let label = self.label(context, |alerts| &alerts.environment_labels);
                names.environment(label).map_err(fault)?.to_string()
            }
        };
        let service = match &check.service {
            _ if check.whole_environment => None,
            Some(name) => Some(name.clone()),
            None => {
                let label = self.label(context, |alerts| &alerts.service_labels);
                Some(names.service(label).map_err(fault)?.to_string())
            }
        };
        let target = match &check.target {
            Some(name) => Some(name.clone()),
            None => {
                let label = self.label(context, |alerts| &alerts.target_labels);
                names.target(label).map_err(fault)?.map(|name| name.to_string())
            }
        };
        let event = self
            .draft(context, "validation.failed")?
            .with("environment", environment)
            .with_optional("target", target.filter(|_| service.is_some()))
            .with_optional("service", service)
            .with("check", check.check.as_str())
            .with("run", self.id.as_str());
        Ok(event.build())
    }

    fn activity(&self, reason: &str) -> NativeEvent {
        let (outcome, id) = (if self.is_firing { "firing" } else { "resolved" }, &self.id);
        let activity = Draft::new(
            "activity.reported",
            &self.source,
            &format!("{id}/activity/{outcome}"),
            self.starts_at,
        );
        activity
            .with("activity", "alert")
            .with_line("subject", Some(self.name))
            .with_line("outcome", Some(outcome))
            .with_reason(Some(reason))
            .build()
    }

    /// Starts the event of the alert's start or end.
    fn draft(&self, context: Context<'_>, kind: &str) -> Result<Draft, NotUnderstood> {
        let (id, at) = if self.is_firing {
            (format!("{}/firing", self.id), self.starts_at)
        } else {
            let ends_at = context.time(&self.node, "endsAt")?;
            (format!("{}/resolved/{}", self.id, ends_at.timestamp()), ends_at)
        };
        Ok(Draft::new(kind, &self.source, &id, at)
            .with_actor(Some(("workload", "alertmanager")))
            .with_link("alert", self.node.hint("generatorURL")))
    }

    /// Returns the first label of a list that the alert has.
    fn label<'c>(
        &self,
        context: Context<'c>,
        list: impl Fn(&'c super::settings::AlertSettings) -> &'c Vec<String>,
    ) -> Option<&'m str> {
        list(&context.webhook.alerts).iter().find_map(|name| self.labels.hint(name))
    }
}

/// Returns what identifies an alert where the notification does not state it: a digest of its labels.
fn fingerprint(labels: &Node<'_>) -> String {
    let Some(labels) = labels.value().as_object() else { return String::new() };
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    text::digest(&json!(sorted).to_string())["sha256:".len()..][..16].to_owned()
}

#[cfg(test)]
mod tests;
