//! Messages of brokers: the write path as [`Receiver`]. A broker's publisher only reports, like a webhook.
//!
//! Consecutive messages of a call are appended together. A message that must be delivered again ends the call, so that no
//! later message is recorded before it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ledger_adapters::translation::NotUnderstood;
use ledger_api_types::EventStatus;
use ledger_codec::cloudevents::{Envelope, decode_header};
use ledger_domain::event::CLOCK_TOLERANCE;
use ledger_domain::{Position, Principal, PrincipalKind, ShortText};
use ledger_ingest::{RecordError, RecordOutcome};
use ledger_journal::AppendError;
use ledger_streams::inbound::{Format, InboundMessage, Receipt, Receiver, Route};
use metrics::counter;
use tokio::time::sleep;
use tracing::warn;

use crate::App;
use crate::access::Tenancy;
use crate::event_result::{id_and_source, is_recorded, outcome_result};
use crate::foreign::{Message, MessageSource, check_message_secrets};
use crate::hooks::{DELIVERY_LIMIT, translated_headers};
use crate::problem::{Kind, Problem};
use crate::quarantine::quarantine;
use crate::rates::{InProgress, Meter};
use crate::recording::{self, FaultyMessage, Meaning};
use crate::tenant::TenantLedger;

/// Longest wait of a call for the rate of its publisher's events. After it, the messages are delivered again.
const RATE_WAIT: Duration = Duration::from_secs(3);

/// Records the messages of brokers.
#[derive(Clone)]
pub struct BrokerReceiver {
    app: Arc<App>,
}

impl BrokerReceiver {
    /// Creates a receiver that records in the ledgers of a service.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Returns the ledger of a route, in the name of its publisher.
    async fn ledger(&self, route: &Route) -> Result<(TenantLedger, Option<InProgress>), Receipt> {
        let tenant = &route.tenant;
        if tenant.is_admin() {
            let detail = "the tenant of tokens and grants takes no messages of brokers";
            return Err(rejected(Problem::new(Kind::OtherTenant, detail)));
        }
        // A route names a tenant of the settings, which is served until the process ends. If its ledger is missing, the
        // message stays with the broker: nothing is wrong with it.
        let Some(ledger) = self.app.ledgers.get(tenant) else {
            return Err(Receipt::Retry(format!("the service does not serve tenant {tenant} now")));
        };
        if let Format::Hook(name) = &route.format
            && self.app.hooks.get(name).is_none_or(|hook| hook.tenant != *tenant)
        {
            let detail = format!("the service has no webhook {name} for the tenant {tenant}");
            return Err(rejected(Problem::parameter("hook", detail)));
        }
        let principal = publisher(route).map_err(rejected)?;
        let meter = self.app.rates.meter_of_reporter(tenant, &principal);
        let in_progress = self.admit(route, &meter).await?;
        let tenancy = Tenancy::of_reporter(&self.app, tenant, principal, meter, Arc::default());
        Ok((TenantLedger::new(Arc::clone(&self.app), ledger, tenancy), in_progress))
    }

    /// Admits a call within the limits of its publisher. A call from Kafka is no request, but as many messages as were
    /// received: only its events count, and it waits until they are within their rate.
    async fn admit(&self, route: &Route, meter: &Arc<Meter>) -> Result<Option<InProgress>, Receipt> {
        let rates = &self.app.rates;
        let excess = if route.issuer == Principal::KAFKA {
            match rates.admit_events(meter) {
                Ok(()) => return Ok(None),
                Err(excess) if excess.wait <= RATE_WAIT => {
                    sleep(excess.wait).await;
                    return Ok(None);
                }
                Err(excess) => {
                    sleep(RATE_WAIT).await;
                    excess
                }
            }
        } else {
            match rates.admit(meter, true) {
                Ok(in_progress) => return Ok(Some(in_progress)),
                Err(excess) => excess,
            }
        };
        Err(Receipt::Retry(format!("{}; retry after {} ms", excess.detail, excess.wait.as_millis())))
    }
}

/// Returns the principal of a route's publisher: a workload, which the broker authenticates.
fn publisher(route: &Route) -> Result<Arc<Principal>, Problem> {
    let text = |text: &str| ShortText::parse(text).map_err(|error| Problem::parameter("publisher", error));
    let broker = route.issuer.rsplit(':').next().unwrap_or_default();
    Ok(Arc::new(Principal {
        kind: PrincipalKind::Workload,
        issuer: text(route.issuer)?,
        subject: text(&route.publisher)?,
        name: text(&format!("{broker}-{}", route.publisher))?,
        claims: BTreeMap::new(),
    }))
}

#[async_trait]
impl Receiver for BrokerReceiver {
    async fn receive(&self, route: &Route, messages: Vec<InboundMessage>) -> Vec<Receipt> {
        let count = messages.len();
        let mut receipts = match self.ledger(route).await {
            Ok((ledger, _in_progress)) => receive_all(&ledger, route, messages).await,
            Err(receipt) => vec![receipt; count],
        };
        // Also if the ledger returned too few.
        let waiting = "an earlier message of the same publisher must be delivered first".to_owned();
        receipts.resize(count, Receipt::Retry(waiting));
        for receipt in &receipts {
            report(route, receipt);
        }
        receipts
    }
}

fn report(route: &Route, receipt: &Receipt) {
    let outcome = match receipt {
        Receipt::Recorded(_) => "recorded",
        Receipt::Ignored(_) => "ignored",
        // The quarantine logs it.
        Receipt::Quarantined { .. } => "quarantined",
        // The consumer of Kafka logs it, with its place.
        Receipt::Rejected { .. } if route.issuer == Principal::KAFKA => "rejected",
        Receipt::Rejected { problem, detail, .. } => {
            let (tenant, issuer, publisher) = (&route.tenant, route.issuer, &route.publisher);
            warn!(%tenant, issuer, publisher, problem, detail, "a message of a broker is rejected");
            "rejected"
        }
        Receipt::Retry(_) => "retry",
    };
    let (tenant, issuer) = (route.tenant.to_string(), route.issuer);
    counter!("ledger_broker_messages_total", "tenant" => tenant, "issuer" => issuer, "outcome" => outcome)
        .increment(1);
}

/// A message with valid events: what remains of it while they are recorded.
struct Pending {
    message: Message,
    /// Events to record.
    events: Vec<Envelope>,
    /// Ids and sources of the events.
    identities: Vec<(String, String)>,
    /// Fault for which the whole message is quarantined.
    fault: Option<NotUnderstood>,
    /// Part of the message that is faulty, to quarantine if the rest is recorded.
    faulty_part: Option<Box<FaultyMessage>>,
    /// Problem of the first event that the publisher may not send.
    forbidden: Option<Problem>,
}

/// A message that was read.
enum Read {
    Done(Receipt),
    Pending(Box<Pending>),
}

/// Records messages in order. Ends after the first one that must be delivered again.
async fn receive_all(ledger: &TenantLedger, route: &Route, messages: Vec<InboundMessage>) -> Vec<Receipt> {
    let mut receipts = Vec::with_capacity(messages.len());
    let mut run = Vec::new();
    for message in messages {
        let read = read(ledger, route, message).await;
        // The quarantine may be full: no later message is recorded before it has taken this one.
        let ends_run = match &read {
            Read::Done(receipt) => !receipt.is_final(),
            Read::Pending(pending) => pending.fault.is_some() || pending.faulty_part.is_some(),
        };
        run.push(read);
        if ends_run {
            receipts.extend(record(ledger, std::mem::take(&mut run)).await);
            if receipts.last().is_some_and(|receipt| !receipt.is_final()) {
                return receipts;
            }
        }
    }
    receipts.extend(record(ledger, run).await);
    receipts
}

/// Reads a message and checks that its publisher may send its events.
async fn read(ledger: &TenantLedger, route: &Route, message: InboundMessage) -> Read {
    let meaning = checked(route, message).and_then(|message| match recording::read(ledger, &message) {
        Ok(meaning) => Ok((message, meaning)),
        Err(problem) => Err(unreadable(problem)),
    });
    let (message, events, mut fault, faulty_part) = match meaning {
        Ok((message, Meaning::Events(events, fault))) => (message, events, fault, None),
        Ok((message, Meaning::Partial(events, part))) => (message, events, None, Some(part)),
        Ok((_, Meaning::Ignored(reason))) => {
            ledger.tenancy().count_received(1);
            return Read::Done(Receipt::Ignored(reason));
        }
        Err(receipt) => {
            ledger.tenancy().count_received(1);
            return Read::Done(receipt);
        }
    };
    ledger.tenancy().count_received(events.len().max(1));
    if events.is_empty() && fault.is_none() && faulty_part.is_none() {
        return Read::Done(Receipt::Ignored("the message states no event".to_owned()));
    }
    let (mut accepted, mut forbidden) = (Vec::with_capacity(events.len()), None);
    let now = ledger.now();
    for event in events {
        let occurred_at = event.occurred_at();
        if occurred_at - now > CLOCK_TOLERANCE {
            // Delivered later, it could be recorded: no later message is recorded before it is in quarantine.
            let error = RecordError::FromTheFuture { occurred_at, now };
            let detail = format!("the event {} is not recorded: {error}", id_and_source(&event).0);
            fault.get_or_insert_with(|| NotUnderstood::new("", detail));
            continue;
        }
        match ledger.accept(event).await {
            Ok(event) => accepted.push(event),
            Err(problem) => match refused(problem.clone()) {
                retry @ Receipt::Retry(_) => return Read::Done(retry),
                _ => {
                    forbidden.get_or_insert(problem);
                }
            },
        }
    }
    let identities = accepted.iter().map(id_and_source).collect();
    Read::Pending(Box::new(Pending { message, events: accepted, identities, fault, faulty_part, forbidden }))
}

/// Returns the receipt of a message that [`recording::read`] rejects: it is too large, or contains a secret.
fn unreadable(problem: Problem) -> Receipt {
    let is_too_large = problem.clone().into_body().status == 413;
    if is_too_large { rejected(problem) } else { with_secret(problem) }
}

/// Returns a message with the headers that its translation reads, after the checks that decide if it may be kept.
fn checked(route: &Route, message: InboundMessage) -> Result<Message, Receipt> {
    let InboundMessage { headers, body } = message;
    let (source, headers) = match &route.format {
        Format::Events => (MessageSource::Events, event_headers(route, headers).map_err(rejected)?),
        Format::Hook(name) => (MessageSource::Hook(name.clone()), translated_headers(&headers)),
    };
    check_message_secrets(&headers, &body).map_err(|secret| with_secret(Problem::from(&secret)))?;
    if matches!(route.format, Format::Hook(_)) && body.len() > DELIVERY_LIMIT {
        let detail = format!("the message exceeds {DELIVERY_LIMIT} bytes");
        return Err(rejected(Problem::new(Kind::TooLarge, detail)));
    }
    Ok(Message { source, headers, body })
}

/// Returns the headers of a CloudEvent. Their values are percent-encoded in the binding of NATS, as in that of HTTP, and
/// not in that of Kafka.
fn event_headers(
    route: &Route,
    headers: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let is_kept = |name: &str| name == "content-type" || name.starts_with("ce-");
    let kept = headers.into_iter().filter(|(name, _)| is_kept(name));
    if route.issuer != Principal::NATS {
        return Ok(kept.collect());
    }
    let decoded = kept.map(|(name, value)| match name.starts_with("ce-") {
        true => match decode_header(&value) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(Problem::parameter(&name, error)),
        },
        false => Ok((name, value)),
    });
    decoded.collect()
}

/// Records the events of messages together, and returns the receipts up to the first message that must be delivered
/// again.
async fn record(ledger: &TenantLedger, mut run: Vec<Read>) -> Vec<Receipt> {
    let mut events = Vec::new();
    for read in &mut run {
        if let Read::Pending(pending) = read {
            events.append(&mut pending.events);
        }
    }
    let outcomes = if events.is_empty() { Vec::new() } else { ledger.ingest.record(events).await };
    let appended = outcomes.iter().filter(|outcome| is_recorded(outcome)).count();
    ledger.tenancy().stats().add_recorded(appended);
    let mut outcomes = outcomes.into_iter();
    let mut receipts = Vec::with_capacity(run.len());
    for read in run {
        let receipt = match read {
            Read::Done(receipt) => receipt,
            Read::Pending(pending) => {
                let of_message = outcomes.by_ref().take(pending.identities.len()).collect();
                settle(ledger, *pending, of_message).await
            }
        };
        let is_final = receipt.is_final();
        receipts.push(receipt);
        if !is_final {
            break;
        }
    }
    receipts
}

/// Returns the receipt of a message with the outcomes of its events. Quarantines it, if the ledger does not accept all of
/// it.
async fn settle(ledger: &TenantLedger, pending: Pending, outcomes: Vec<RecordOutcome>) -> Receipt {
    let Pending { message, identities, mut fault, faulty_part, mut forbidden, .. } = pending;
    if outcomes.len() < identities.len() {
        return Receipt::Retry("the service is shutting down".to_owned());
    }
    let mut positions: Vec<Position> = Vec::with_capacity(outcomes.len());
    for ((id, source), outcome) in identities.into_iter().zip(&outcomes) {
        if let RecordOutcome::Recorded(position) | RecordOutcome::Duplicate(position) = outcome {
            positions.push(*position);
            continue;
        }
        let result = outcome_result((id.clone(), source), outcome);
        let problem = result.problem.map(Problem::from);
        let problem =
            problem.unwrap_or_else(|| Problem::new(Kind::JournalUnavailable, "the event is not recorded"));
        let is_temporary = result.status == EventStatus::Refused
            && !matches!(outcome, RecordOutcome::Refused(RecordError::Journal(AppendError::Refused(_))));
        let body = problem.clone().into_body();
        if is_temporary {
            return Receipt::Retry(body.detail.clone());
        }
        if body.status == 403 {
            forbidden.get_or_insert(problem);
        } else {
            let detail = format!("the event {id} is not recorded: {}", body.detail);
            fault.get_or_insert_with(|| NotUnderstood::new("", detail));
        }
    }
    match (forbidden, fault, faulty_part) {
        (Some(problem), _, _) => rejected(problem),
        (None, Some(fault), _) => keep(ledger, &message, &fault).await,
        (None, None, Some(part)) => keep(ledger, &part.message, &part.fault).await,
        (None, None, None) => Receipt::Recorded(positions),
    }
}

async fn keep(ledger: &TenantLedger, message: &Message, fault: &NotUnderstood) -> Receipt {
    match quarantine(ledger, message, fault).await {
        Ok(id) => Receipt::Quarantined { id, detail: fault.to_string() },
        Err(problem) => refused(problem),
    }
}

/// Returns the receipt of a message with a problem: one of the service itself is temporary.
fn refused(problem: Problem) -> Receipt {
    let body = problem.clone().into_body();
    if body.status >= 500 || body.status == 429 { Receipt::Retry(body.detail) } else { rejected(problem) }
}

fn rejected(problem: Problem) -> Receipt {
    rejection(problem, false)
}

/// Returns the receipt of a message that contains a secret.
fn with_secret(problem: Problem) -> Receipt {
    rejection(problem, true)
}

fn rejection(problem: Problem, has_secret: bool) -> Receipt {
    let body = problem.into_body();
    let slug = body.slug().unwrap_or_default().to_owned();
    Receipt::Rejected { problem: slug, detail: body.detail, has_secret }
}
