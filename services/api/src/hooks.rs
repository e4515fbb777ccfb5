//! Webhooks: `POST /v1/hooks/{hook}`.
//!
//! A delivery is authenticated by the secret of its webhook, and not by credentials of the ledger. Its events are reports
//! in the name of the webhook, which has no other rights.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ledger_adapters::hooks::{Webhook, verify};
use ledger_adapters::translation::NotUnderstood;
use ledger_api_types::{DeliveryBody, EventResult};
use ledger_domain::{Principal, TenantName};
use serde::Deserialize;
use tracing::warn;
use utoipa::IntoParams;

use crate::access::Tenancy;
use crate::body::{read, reject_secrets};
use crate::foreign::{Message, MessageSource, hook_principal};
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::quarantine::quarantine;
use crate::recording::{FaultyMessage, MessageError, MessageOutcome, delivery, record_message};
use crate::request_stats::RequestStats;
use crate::tenant::TenantLedger;
use crate::too_many::too_many;
use crate::{App, parameters};

/// Headers that authenticate deliveries, each those of some tool.
const AUTHENTICATING: [&str; 5] =
    ["authorization", "webhook-signature", "x-gitlab-token", "x-hub-signature-256", "x-signature"];

/// Maximum size of a delivery, in bytes.
pub(crate) const DELIVERY_LIMIT: usize = 1 << 20;

/// A webhook of a tenant, which the service accepts.
#[derive(Debug)]
pub struct TenantWebhook {
    /// Tenant whose ledger records its events.
    pub tenant: TenantName,
    /// Tool that sends it, secrets, and the meaning of its names.
    pub webhook: Webhook,
}

/// Path of a webhook.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HookPath {
    /// Name of the webhook in the service's settings.
    hook: String,
}

/// Deliver a webhook
///
/// Accepts a delivery of the webhook that the service's settings have under this name. Its sender authenticates it as
/// the tool does: by a signature of the body, or a shared secret. The answer says which events it meant, or why it was
/// ignored; what cannot be understood is quarantined. A redelivery has no second effect.
#[utoipa::path(
    post,
    path = "/hooks/{hook}",
    operation_id = "deliverWebhook",
    tag = "events",
    params(HookPath),
    request_body(description = "Payload of the tool", content((serde_json::Value = "application/json"))),
    responses(
        (status = 200, description = "All its events are recorded, now or earlier, or it is ignored",
            body = DeliveryBody),
        (status = 202, description = "It or a part of it could not be understood, or some of its events are not recorded; that is quarantined",
            body = DeliveryBody),
        (status = "4XX", description = "Not accepted",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or unknown; deliver it again",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn deliver_webhook(
    State(app): State<Arc<App>>,
    Path(HookPath { hook: name }): Path<HookPath>,
    parameters::StrictQuery(parameters::NoParameters {}): parameters::StrictQuery<parameters::NoParameters>,
    peer: Option<Extension<Peer>>,
    Extension(stats): Extension<Arc<RequestStats>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let address = peer.map(|Extension(peer)| peer.counted());
    let (name, headers_by_name) = (name, texts(&headers));
    if !AUTHENTICATING.iter().any(|header| headers_by_name.contains_key(*header)) {
        return refused(&app, address, &name, "it has no header that authenticates it");
    }
    let body = read(&app.bounds.deliveries, &headers, body, DELIVERY_LIMIT).await?;
    let message = Message {
        source: MessageSource::Hook(name.clone()),
        headers: headers_by_name,
        body: body.bytes.clone(),
    };
    let (hook, principal) = match authentic(&app, &name, &message) {
        Ok(authentic) => authentic,
        Err(reason) => return refused(&app, address, &name, &reason),
    };
    let meter = app.rates.meter_of_reporter(&hook.tenant, &principal);
    let _in_progress = match app.rates.admit(&meter, true) {
        Ok(in_progress) => in_progress,
        Err(excess) => return Ok(too_many(&excess)),
    };
    reject_secrets(&message.body)?;
    let message = Message { headers: translated_headers(&message.headers), ..message };
    let tenancy = Tenancy::of_reporter(&app, &hook.tenant, principal, meter, stats);
    let Some(of_tenant) = app.ledgers.get(&hook.tenant) else {
        return refused(&app, address, &name, "the webhook has no ledger");
    };
    let ledger = TenantLedger::new(Arc::clone(&app), of_tenant, tenancy);
    let (status, delivery) = match record_message(&ledger, &message).await {
        Ok(MessageOutcome::Events(events, faulty)) => {
            let refused = events.iter().find(|event| !event.status.is_recorded()).map(refusal);
            match (refused, faulty) {
                (None, None) => (StatusCode::OK, DeliveryBody { events, ..delivery("recorded") }),
                // The sender of a webhook does not correct it: keep it for the operator.
                (Some(refusal), _) => {
                    let error = NotUnderstood::new("", refusal);
                    (StatusCode::ACCEPTED, kept(&ledger, &message, error, events).await?)
                }
                (None, Some(faulty)) => {
                    let FaultyMessage { message, fault } = *faulty;
                    (StatusCode::ACCEPTED, kept(&ledger, &message, fault, events).await?)
                }
            }
        }
        Ok(MessageOutcome::Ignored(reason)) => {
            (StatusCode::OK, DeliveryBody { detail: Some(reason), ..delivery("ignored") })
        }
        Err(MessageError::Problem(problem)) => return Err(problem),
        Err(MessageError::NotUnderstood(error)) => {
            (StatusCode::ACCEPTED, kept(&ledger, &message, error, Vec::new()).await?)
        }
    };
    Ok((status, Json(delivery)).into_response())
}

/// Quarantines a message, and returns the answer to its delivery.
async fn kept(
    ledger: &TenantLedger,
    message: &Message,
    error: NotUnderstood,
    events: Vec<EventResult>,
) -> Result<DeliveryBody, Problem> {
    let id = quarantine(ledger, message, &error).await?;
    let (detail, pointer) = (Some(error.detail), Some(error.pointer));
    Ok(DeliveryBody { events, detail, pointer, quarantine_id: Some(id), ..delivery("quarantined") })
}

/// Returns the reason why an event is not recorded.
fn refusal(event: &EventResult) -> String {
    let detail = event.problem.as_ref().map(|problem| problem.detail.as_str()).unwrap_or_default();
    format!("the event {} is not recorded: {detail}", event.id.as_deref().unwrap_or_default())
}

/// Returns the answer to a delivery that is not authentic: the same for a webhook that does not exist, so that names
/// cannot be found by trial. Only such deliveries count for the limit of their address: others may come from the same.
fn refused(app: &App, address: Option<IpAddr>, name: &str, reason: &str) -> Result<Response, Problem> {
    warn!(hook = name, reason, "a delivery of a webhook is not authentic");
    if let Some(address) = address {
        if let Err(excess) = app.rates.check_failures(address) {
            return Ok(too_many(&excess));
        }
        app.rates.add_failure(address);
    }
    let detail = "no webhook has this name, or the delivery is not authentic";
    Err(Problem::new(Kind::Unauthenticated, detail))
}

/// Returns the webhook of an authentic delivery, and its principal; or the reason why the delivery is not authentic, for
/// the log.
fn authentic<'a>(
    app: &'a App,
    name: &str,
    message: &Message,
) -> Result<(&'a TenantWebhook, Arc<Principal>), String> {
    let known = app.hooks.get(name);
    // A delivery for an unknown webhook takes as long as one for another.
    let Some(hook) = known.or_else(|| app.hooks.values().next()) else {
        return Err("no webhook is configured".into());
    };
    let now =
        app.ledgers.get(&hook.tenant).map(|ledger| (ledger.clock)()).ok_or("the webhook has no ledger")?;
    let verified = verify(&hook.webhook, &message.request(), now);
    if known.is_none() {
        return Err("no webhook has this name".into());
    }
    verified.map_err(|error| error.to_string())?;
    let principal = hook_principal(name).ok_or("the name of the webhook is not valid")?;
    Ok((hook, principal))
}

/// Returns the headers that are text, by name. Different values of a repeated header are joined, which no verification
/// accepts.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        match texts.entry(name.as_str().to_owned()) {
            Entry::Vacant(entry) => drop(entry.insert(value.to_owned())),
            Entry::Occupied(entry) if entry.get() == value => {}
            Entry::Occupied(mut entry) => {
                entry.get_mut().push_str(", ");
                entry.get_mut().push_str(value);
            }
        }
    }
    texts
}

/// Returns the headers without those that authenticate: they are not stored.
pub(crate) fn translated_headers(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_kept = |name: &str| {
        name == "content-type"
            || name == "webhook-id"
            || name == "webhook-timestamp"
            || name == "idempotency-key"
            || name == "user-agent"
            || (name.starts_with("x-github-") || name.starts_with("x-gitlab-")) && name != "x-gitlab-token"
    };
    headers
        .iter()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
