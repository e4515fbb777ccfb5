//! Webhooks of other tools: the authentication of deliveries, and their translation to events.
//!
//! [`verify`] authenticates a delivery by its headers and the bytes of its body; [`translate`] reads an authentic one.
//! Both are pure: the secrets are part of the [`Webhook`], and the time is an argument.
//!
//! # Rules of every kind
//!
//! - Only a message that states a success is reported as `deploy.succeeded`; any other is an activity, without an
//!   effect.
//! - A run, job or alert fails a check only if the settings name it, and what it checks. The run of a pull request never
//!   fails a check.
//! - A redelivery has the identity and the content of the first delivery. A retry of a job has another identity. Content
//!   comes from the message, and never from the time of its arrival. Where a message states no time (a feature flag of
//!   GitLab), the event has that time, marked as no part of its content.
//! - Members that the ledger does not need are tolerated in any form; a member that it needs and cannot read is
//!   [`NotUnderstood`], with its place.
//! - A part of a message that cannot be understood does not hold up the others: [`Translation::Partial`].
//! - An event of the tool that the ledger does not record is ignored, with a reason that names it.

mod alertmanager;
mod argocd;
mod authenticity;
mod checks;
mod context;
mod draft;
#[cfg(test)]
mod fixture;
mod flux;
mod generic;
mod github;
mod gitlab;
mod json;
pub mod mapping;
mod release;
mod request;
mod secret;
pub mod settings;
mod signing;
mod time;
mod webhook;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::context::Context;
use crate::translation::{NotUnderstood, Translation};

pub use self::authenticity::Unauthentic;
pub use self::request::Request;
pub use self::secret::{Secret, SecretError};
pub use self::settings::{Authentication, HookKind, InvalidSettings, WebhookSettings};
pub use self::signing::{SigningSecret, SigningSecretError, sign};
pub use self::webhook::Webhook;

/// Verifies that a delivery comes from a sender that has a secret of the webhook.
///
/// # Errors
/// The delivery is not authentic, for the reason in the error. No error contains a secret.
pub fn verify(webhook: &Webhook, request: &Request<'_>, now: DateTime<Utc>) -> Result<(), Unauthentic> {
    let secrets = &webhook.secrets;
    if secrets.is_empty() {
        return Err(Unauthentic::NoSecret);
    }
    match webhook.authentication() {
        Authentication::GitHub => authenticity::verify_hmac("X-Hub-Signature-256", secrets, request),
        Authentication::GitLab => authenticity::verify_gitlab(secrets, request, now),
        Authentication::XSignature => authenticity::verify_hmac("X-Signature", secrets, request),
        Authentication::Bearer => authenticity::verify_bearer(secrets, request),
        Authentication::Standard => authenticity::verify_standard(secrets, request, now),
    }
}

/// Translates an authentic delivery.
///
/// `now` is the time of events whose message states none, and the limit of times: a message from the future is not
/// understood.
///
/// # Errors
/// The delivery cannot be understood, for the reason in the error.
pub fn translate(
    webhook: &Webhook,
    request: &Request<'_>,
    now: DateTime<Utc>,
) -> Result<Translation, NotUnderstood> {
    let body = parse(request)?;
    let context = Context { webhook, now };
    let translation = match webhook.kind() {
        HookKind::GitHub => github::translate(context, request, &body),
        HookKind::GitLab => gitlab::translate(context, request, &body),
        HookKind::ArgoCd => argocd::translate(context, &body),
        HookKind::Flux => flux::translate(context, &body),
        HookKind::Alertmanager => alertmanager::translate(context, &body),
        HookKind::Generic => match &webhook.mapping {
            Some(mapping) => generic::translate(context, mapping, &body),
            None => Ok(Translation::Ignored("the webhook has no mapping".to_owned())),
        },
    }?;
    match &translation {
        Translation::Events(events) => events.iter().try_for_each(draft::check_event)?,
        Translation::Partial(part) => part.events.iter().try_for_each(draft::check_event)?,
        Translation::Ignored(_) => {}
    }
    Ok(translation)
}

/// Returns lines that describe the translation of a delivery, for people.
#[must_use]
pub fn describe(translation: &Result<Translation, NotUnderstood>) -> Vec<String> {
    match translation {
        Ok(Translation::Ignored(reason)) => vec![format!("ignored: {reason}")],
        Ok(Translation::Partial(part)) => {
            let fault = format!("not understood: {}", part.fault);
            part.events.iter().map(|event| summary(&event.0)).chain([fault]).collect()
        }
        Err(error) => vec![format!("not understood: {error}")],
        Ok(Translation::Events(events)) => events.iter().map(|event| summary(&event.0)).collect(),
    }
}

fn summary(event: &serde_json::Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = text("type");
    let kind =
        kind.strip_prefix("io.releaseledger.").and_then(|kind| kind.strip_suffix(".v1")).unwrap_or(kind);
    let data = event.get("data").map(Value::to_string).unwrap_or_default();
    format!("{kind} {} {} {} {data}", text("time"), text("source"), text("id"))
}

/// Parses the body of a delivery.
fn parse(request: &Request<'_>) -> Result<Value, NotUnderstood> {
    let content_type = request.header("Content-Type").unwrap_or_default();
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let detail = "the body is a form; set the content type of the webhook to application/json";
        return Err(NotUnderstood::new("", detail));
    }
    let body: Value = serde_json::from_slice(request.body())
        .map_err(|error| NotUnderstood::new("", format!("the body is not JSON: {error}")))?;
    if body.is_object() { Ok(body) } else { Err(NotUnderstood::new("", "the body must be a JSON object")) }
}

#[cfg(test)]
mod tests;
