//! Middleware that limits the requests and events of each principal, and tells clients how much is left:
//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use crate::access::Sent;
use crate::rates::{Meter, Metered, Rates};
use crate::too_many::{seconds, too_many};
use crate::{App, health_paths};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Admits a request if its sender is within its limits. Requests without an authenticated sender have none.
pub(crate) async fn limit_rates(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let sender = request.extensions().get::<Sent>().and_then(|Sent(sender)| sender.as_ref());
    let Some(sender) = sender.filter(|_| !health_paths::is_health(path)) else {
        return next.run(request).await;
    };
    let meter = app.rates.meter(sender);
    let sends_events = request.method() == Method::POST && path.ends_with("/events");
    let mut response = match app.rates.admit(&meter, sends_events) {
        Ok(_in_progress) => {
            request.extensions_mut().insert(Metered(Arc::clone(&meter)));
            next.run(request).await
        }
        Err(excess) => too_many(&excess),
    };
    describe(response.headers_mut(), &app.rates, &meter);
    response
}

/// Adds the limits of a principal, and what is left of them.
fn describe(headers: &mut HeaderMap, rates: &Rates, meter: &Meter) {
    let (mut policy, mut limit) = (String::new(), String::new());
    for quota in rates.quotas(meter) {
        let (name, separator) = (quota.name, if policy.is_empty() { "" } else { ", " });
        let window = seconds(quota.window).max(1);
        let _ = write!(policy, "{separator}\"{name}\";q={};qu=\"{name}\";w={window}", quota.quota);
        let _ = write!(limit, "{separator}\"{name}\";r={};t={}", quota.remaining, seconds(quota.reset));
    }
    let concurrent = rates.concurrent_requests();
    if concurrent > 0 {
        let separator = if policy.is_empty() { "" } else { ", " };
        let _ = write!(policy, "{separator}\"concurrency\";q={concurrent};qu=\"concurrent-requests\"");
    }
    for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
        if !value.is_empty()
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
    }
}
