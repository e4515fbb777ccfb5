//! Subscriptions and their deliveries. Events create and remove them, as they do policies.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_api_types::{
    AttemptBody, AttemptsBody, DeliveryStatusBody, DisabledBody, EntryRefBody, SubscriptionBody,
    SubscriptionFilterBody, SubscriptionsBody,
};
use ledger_domain::{Position, SubscriptionName};
use ledger_projections::{DeliveryAttempt, SubscriptionRow};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ManageSubscriptions};
use crate::parameters::{NoParameters, StrictQuery, WaitQuery, parse, wait_for_position, with_position};
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

/// Maximum number of attempts in a response: those that are kept.
const MAX_ATTEMPTS: u32 = 100;

/// Path of a subscription.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SubscriptionPath {
    /// Name of the subscription.
    subscription: String,
}

fn subscription_body(row: &SubscriptionRow) -> SubscriptionBody {
    let filter = &row.subscription.filter;
    SubscriptionBody {
        subscription: row.subscription.name.to_string(),
        url: row.subscription.url.as_str().to_owned(),
        secret: row.subscription.secret.to_string(),
        filter: SubscriptionFilterBody {
            environment: filter.environment.as_ref().map(ToString::to_string),
            service: filter.service.as_ref().map(ToString::to_string),
            types: filter.types.iter().map(ToString::to_string).collect(),
        },
        created_position: row.created_position.get(),
        settings_position: row.settings_position.get(),
        disabled: row.disabled.as_ref().map(|disabled| DisabledBody {
            position: disabled.position.get(),
            reason: disabled.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        }),
        delivery: None,
    }
}

fn attempt_body(attempt: DeliveryAttempt) -> AttemptBody {
    AttemptBody {
        position: attempt.position.get(),
        attempted_at: attempt.attempted_at,
        duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
        status: attempt.status,
        error: attempt.error,
    }
}

/// List subscriptions
///
/// Lists the webhooks to which entries of the tenant are delivered, by name. `POST /v1/events` creates and removes them
/// (`subscription.created`, `subscription.removed`). Needs `subscribe` for the whole tenant.
#[utoipa::path(
    get,
    path = "/subscriptions",
    operation_id = "listSubscriptions",
    tag = "subscriptions",
    params(WaitQuery),
    responses(
        (status = 200, description = "Subscriptions", body = SubscriptionsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_subscriptions(
    ledger: Authorized<ManageSubscriptions>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    let subscriptions = snapshot.subscriptions().await?.iter().map(subscription_body).collect();
    Ok(with_position(position, Json(SubscriptionsBody { position: position.get(), subscriptions })))
}

/// Get a subscription
///
/// Returns a subscription with the state of its deliveries. Needs `subscribe` for the whole tenant.
#[utoipa::path(
    get,
    path = "/subscriptions/{subscription}",
    operation_id = "getSubscription",
    tag = "subscriptions",
    params(SubscriptionPath, WaitQuery),
    responses(
        (status = 200, description = "Subscription", body = SubscriptionBody),
        (status = "4XX", description = "Invalid request, or unknown subscription",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_subscription(
    ledger: Authorized<ManageSubscriptions>,
    Path(path): Path<SubscriptionPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let (position, row) = found(&ledger, &path).await?;
    let delivery = Some(delivery_status(&ledger, &row).await?);
    Ok(with_position(position, Json(SubscriptionBody { delivery, ..subscription_body(&row) })))
}

/// List the deliveries of a subscription
///
/// Lists the last hundred attempts to deliver entries, latest first. Needs `subscribe` for the whole tenant.
#[utoipa::path(
    get,
    path = "/subscriptions/{subscription}/deliveries",
    operation_id = "listDeliveries",
    tag = "subscriptions",
    params(SubscriptionPath),
    responses(
        (status = 200, description = "Attempts", body = AttemptsBody),
        (status = "4XX", description = "Invalid request, or unknown subscription",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_deliveries(
    ledger: Authorized<ManageSubscriptions>,
    Path(path): Path<SubscriptionPath>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let (position, row) = found(&ledger, &path).await?;
    let attempts = ledger.projections.delivery_attempts(&row.follower(), MAX_ATTEMPTS).await?;
    let deliveries = attempts.into_iter().map(attempt_body).collect();
    Ok(with_position(position, Json(AttemptsBody { deliveries })))
}

async fn found(
    ledger: &TenantLedger,
    path: &SubscriptionPath,
) -> Result<(Position, SubscriptionRow), Problem> {
    let name = parse("subscription", &path.subscription, SubscriptionName::parse)?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let row = snapshot.subscription(&name).await?;
    let unknown = || Problem::new(Kind::UnknownSubscription, format!("subscription {name} does not exist"));
    Ok((snapshot.position(), row.ok_or_else(unknown)?))
}

async fn delivery_status(
    ledger: &TenantLedger,
    row: &SubscriptionRow,
) -> Result<DeliveryStatusBody, Problem> {
    let (projections, follower) = (&ledger.projections, row.follower());
    // Without a position of its own, it begins at the start.
    let delivered = projections.follower_checkpoint(&follower).await?.position.max(row.start());
    let (_, next) = projections.recorded_entries(&row.event_filter(), delivered, 1).await?;
    let state = projections.delivery_state(&follower, row.settings_position).await?.unwrap_or_default();
    let last = projections.delivery_attempts(&follower, 1).await?;
    Ok(DeliveryStatusBody {
        delivered_position: delivered.get(),
        pending: next
            .first()
            .map(|entry| EntryRefBody { position: entry.position.get(), recorded_at: entry.recorded_at }),
        failures: state.failures,
        failing_since: state.failing_since,
        next_attempt_at: state.next_attempt_at,
        last_attempt: last.into_iter().next().map(attempt_body),
    })
}
