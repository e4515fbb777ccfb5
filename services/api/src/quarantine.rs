//! Messages that could not be understood: kept, listed, shown, retried and discarded.
//!
//! A retry records the events with the identities that the message gives them, and then ends the message's quarantine.
//! If the service dies in between, the message still waits, and another retry finds duplicates.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger_adapters::translation::NotUnderstood;
use ledger_api_types::{
    AnnotationsBody, DeliveryBody, DiscardRequest, EventResult, EventStatus, PrincipalBody, QuarantineBody,
    QuarantinedBody,
};
use ledger_codec::cloudevents::Envelope;
use ledger_codec::gzip;
use ledger_domain::event::{Activity, Actor, Event, Payload};
use ledger_domain::{EventId, Identity, LongText, Principal, PrincipalKind, ShortText, Source};
use ledger_ingest::{RecordError, RecordOutcome};
use ledger_journal::{QuarantineError, QuarantineItem};
use metrics::counter;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;
use utoipa::IntoParams;

use crate::access::{Authorized, HandleQuarantine, principal_body};
use crate::body::ValidJson;
use crate::foreign::{Message, MessageSource};
use crate::parameters::{NoParameters, StrictQuery, parse_optional, parse_position};
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::recording::{MessageError, MessageOutcome, delivery, record_message};
use crate::tenant::TenantLedger;

/// Maximum number of messages in a page.
const PAGE_LIMIT: usize = 100;
/// Maximum number of messages that are read for a page.
const SCAN_LIMIT: usize = 1_000;
/// Maximum size of a message when it is read back, in bytes.
const MESSAGE_LIMIT: usize = 4 << 20;

/// State of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Waiting,
    Retried,
    Discarded,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }
}

/// A message in the form in which the quarantine stores it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredMessage {
    source: String,
    state: State,
    pointer: String,
    detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<PrincipalBody>,
    headers: BTreeMap<String, String>,
    size: u64,
    /// The message, compressed, in Base64; absent after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positions: Vec<u64>,
}

impl From<QuarantineError> for Problem {
    fn from(error: QuarantineError) -> Self {
        let kind = match error {
            QuarantineError::Unavailable(_) => Kind::JournalUnavailable,
            QuarantineError::Full(_) => Kind::JournalFull,
            QuarantineError::TooLarge(_) => Kind::TooLarge,
            QuarantineError::Changed => Kind::QuarantineChanged,
        };
        match error {
            QuarantineError::Changed | QuarantineError::TooLarge(_) => Self::new(kind, error),
            QuarantineError::Unavailable(_) | QuarantineError::Full(_) => {
                warn!(%error, "the quarantine failed");
                Self::new(kind, format!("{error}; try it again later"))
            }
        }
    }
}

/// Stores a message that cannot be understood, and returns its id.
pub(crate) async fn quarantine(
    ledger: &TenantLedger,
    message: &Message,
    error: &NotUnderstood,
) -> Result<String, Problem> {
    let tenancy = ledger.tenancy();
    if tenancy.tenant.is_admin() {
        let detail = "the tenant of tokens and grants takes no messages of other tools";
        return Err(Problem::new(Kind::OtherTenant, detail));
    }
    tenancy.check_reports()?;
    if ledger.ingest.is_retired() {
        return Err(Problem::from(&RecordError::Retired));
    }
    let source = message.source.to_string();
    let principal = tenancy.principal();
    let sender = principal.map(|principal| format!("{}\0{}", principal.issuer, principal.subject));
    let mut digest = Sha256::new().chain_update(&source).chain_update([0]);
    digest = digest.chain_update(sender.unwrap_or_default()).chain_update([0]);
    for (name, value) in &message.headers {
        digest = digest.chain_update(name).chain_update([0]).chain_update(value).chain_update([0]);
    }
    let digest = digest.chain_update(&message.body).finalize();
    let id = hex::encode(&digest[..16]);
    let stored = StoredMessage {
        source: source.clone(),
        state: State::Waiting,
        pointer: error.pointer.clone(),
        detail: error.detail.clone(),
        principal: principal.map(principal_body),
        headers: message.headers.clone(),
        size: message.body.len() as u64,
        message: Some(STANDARD.encode(gzip::compress(&message.body))),
        positions: Vec::new(),
    };
    ledger.quarantine.put(&id, content(&stored)?).await?;
    let tenant = ledger.tenancy().tenant.to_string();
    counter!("ledger_quarantined_total", "tenant" => tenant, "source" => source.clone()).increment(1);
    warn!(%id, source, %error, "a message could not be understood and is quarantined");
    Ok(id)
}

/// Quarantines a CDEvent that cannot be understood, and returns its result.
pub(crate) async fn quarantined_result(
    ledger: &TenantLedger,
    message: &Message,
    error: &NotUnderstood,
) -> Result<EventResult, Problem> {
    let id = quarantine(ledger, message, error).await?;
    Ok(EventResult {
        id: None,
        source: None,
        status: EventStatus::Quarantined,
        position: None,
        problem: Some(Problem::not_understood(&error.pointer, &error.detail).into_body()),
        quarantine_id: Some(id),
        count: None,
        annotations: AnnotationsBody::default(),
    })
}

fn content(stored: &StoredMessage) -> Result<Bytes, Problem> {
    let json = serde_json::to_vec(stored);
    json.map(Bytes::from)
        .map_err(|error| Problem::new(Kind::Internal, format!("cannot write a message: {error}")))
}

fn parsed(item: &QuarantineItem) -> Result<StoredMessage, Problem> {
    serde_json::from_slice(&item.content).map_err(|error| {
        Problem::new(Kind::Internal, format!("the quarantined message {} cannot be read: {error}", item.key))
    })
}

fn body(item: &QuarantineItem, stored: StoredMessage) -> QuarantinedBody {
    QuarantinedBody {
        id: item.key.clone(),
        cursor: item.version,
        stored_at: item.stored_at,
        source: stored.source,
        state: stored.state.name().to_owned(),
        pointer: stored.pointer,
        detail: stored.detail,
        principal: stored.principal,
        size: stored.size,
        headers: BTreeMap::new(),
        message: None,
        positions: stored.positions,
    }
}

/// Query of [`list_quarantine`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QuarantineQuery {
    /// Cursor: only messages after it.
    after: Option<String>,
    /// `true`: also messages that were retried or discarded within the last hour.
    all: Option<bool>,
}

/// List quarantined messages
///
/// Lists messages that could not be understood, in the order in which they were stored, 100 to a page. Needs `hooks` for
/// the whole tenant.
#[utoipa::path(
    get,
    path = "/quarantine",
    operation_id = "listQuarantine",
    tag = "quarantine",
    params(QuarantineQuery),
    responses(
        (status = 200, description = "Messages", body = QuarantineBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_quarantine(
    ledger: Authorized<HandleQuarantine>,
    StrictQuery(query): StrictQuery<QuarantineQuery>,
) -> Result<Json<QuarantineBody>, Problem> {
    let after = parse_optional("after", query.after.as_deref(), parse_position)?;
    let mut cursor = after.map_or(0, ledger_domain::Position::get);
    let mut messages = Vec::new();
    // Ended messages are passed over: a page reads a bounded number of them.
    for _ in 0..SCAN_LIMIT {
        if messages.len() == PAGE_LIMIT {
            break;
        }
        let Some(item) = ledger.quarantine.next(cursor).await? else {
            return Ok(Json(QuarantineBody { messages, next: None }));
        };
        cursor = item.version;
        match parsed(&item) {
            Ok(stored) if stored.state == State::Waiting || query.all == Some(true) => {
                messages.push(body(&item, stored));
            }
            Ok(_) => {}
            // A newer program may have written it.
            Err(_) => warn!(id = item.key, "a quarantined message cannot be read"),
        }
    }
    Ok(Json(QuarantineBody { messages, next: Some(cursor) }))
}

/// Path of one message.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct MessagePath {
    /// Id of the message.
    message_id: String,
}

/// Get a quarantined message
///
/// Returns a message with its headers and its bytes. Needs `hooks` for the whole tenant.
#[utoipa::path(
    get,
    path = "/quarantine/{message_id}",
    operation_id = "getQuarantined",
    tag = "quarantine",
    params(MessagePath),
    responses(
        (status = 200, description = "Message", body = QuarantinedBody),
        ProblemResponses,
    )
)]
pub(crate) async fn get_quarantined(
    ledger: Authorized<HandleQuarantine>,
    Path(path): Path<MessagePath>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Json<QuarantinedBody>, Problem> {
    let (item, stored) = found(&ledger, &path).await?;
    let headers = stored.headers.clone();
    let message = message_of(&stored).map(|bytes| STANDARD.encode(bytes));
    Ok(Json(QuarantinedBody { headers, message, ..body(&item, stored) }))
}

async fn found(
    ledger: &TenantLedger,
    path: &MessagePath,
) -> Result<(QuarantineItem, StoredMessage), Problem> {
    let id = path.message_id.as_str();
    let is_id = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return Err(Problem::parameter("message_id", "must be 32 lower-case hexadecimal digits"));
    }
    let item = ledger.quarantine.get(id).await?;
    let unknown = || Problem::new(Kind::UnknownMessage, format!("no message {id} is in quarantine"));
    let item = item.ok_or_else(unknown)?;
    let stored = parsed(&item)?;
    Ok((item, stored))
}

fn message_of(stored: &StoredMessage) -> Option<Vec<u8>> {
    gzip::decompress(&STANDARD.decode(stored.message.as_deref()?).ok()?, MESSAGE_LIMIT)
}

async fn waiting(
    ledger: &TenantLedger,
    path: &MessagePath,
) -> Result<(QuarantineItem, StoredMessage), Problem> {
    let (item, stored) = found(ledger, path).await?;
    match stored.state {
        State::Waiting => Ok((item, stored)),
        state => Err(Problem::new(
            Kind::QuarantineChanged,
            format!("the message {} is not waiting any more: it was {}", item.key, state.name()),
        )),
    }
}

/// Retry a quarantined message
///
/// Translates a message again, with the service's present program and settings, and records its events in the name of
/// its sender. If it still cannot be understood, it stays; if only a part can be, the rest is quarantined as a message of
/// its own. Needs `hooks` for the whole tenant.
#[utoipa::path(
    post,
    path = "/quarantine/{message_id}/retry",
    operation_id = "retryQuarantined",
    tag = "quarantine",
    params(MessagePath),
    responses(
        (status = 200, description = "Its events are recorded, or it is ignored; its quarantine has ended",
            body = DeliveryBody),
        (status = 207, description = "Some events are not recorded, and the message stays; see each result",
            body = DeliveryBody),
        (status = "4XX", description = "Not retried, or still not understood",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or unknown; retry later",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry_quarantined(
    ledger: Authorized<HandleQuarantine>,
    Path(path): Path<MessagePath>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let (item, stored) = waiting(&ledger, &path).await?;
    let unreadable = || Problem::new(Kind::Internal, format!("the message {} cannot be read", item.key));
    let message = Message {
        source: MessageSource::parse(&stored.source).ok_or_else(unreadable)?,
        headers: stored.headers.clone(),
        body: message_of(&stored).ok_or_else(unreadable)?.into(),
    };
    let sender = stored.principal.as_ref().map(|body| principal(body).ok_or_else(unreadable)).transpose()?;
    let is_reporter = matches!(message.source, MessageSource::Hook(_))
        || sender.as_ref().is_some_and(Principal::is_reporter);
    let tenancy = ledger.tenancy().on_behalf_of(sender.map(Arc::new), is_reporter);
    let sender_ledger = ledger.with_tenancy(tenancy);
    let (mut delivery, faulty) = match record_message(&sender_ledger, &message).await {
        Ok(MessageOutcome::Events(events, faulty)) => {
            (DeliveryBody { events, ..delivery("recorded") }, faulty)
        }
        Ok(MessageOutcome::Ignored(reason)) => {
            (DeliveryBody { detail: Some(reason), ..delivery("ignored") }, None)
        }
        Err(MessageError::Problem(problem)) => return Err(problem),
        Err(MessageError::NotUnderstood(error)) => {
            return Err(Problem::not_understood(&error.pointer, error.detail));
        }
    };
    if !delivery.events.iter().all(|event| event.status.is_recorded()) {
        return Ok((StatusCode::MULTI_STATUS, Json(delivery)).into_response());
    }
    if let Some(faulty) = faulty {
        // Before the end of this message's quarantine: another retry finds duplicates, and keeps the same rest.
        delivery.quarantine_id = Some(quarantine(&sender_ledger, &faulty.message, &faulty.fault).await?);
        (delivery.detail, delivery.pointer) = (Some(faulty.fault.detail), Some(faulty.fault.pointer));
    }
    let positions = delivery.events.iter().filter_map(|event| event.position).collect();
    end(&ledger, &item, StoredMessage { state: State::Retried, positions, ..stored }).await?;
    Ok(Json(delivery).into_response())
}

/// Discard a quarantined message
///
/// Ends the quarantine of a message without recording its events. The history says who discarded it, and why. Needs
/// `hooks` for the whole tenant.
#[utoipa::path(
    post,
    path = "/quarantine/{message_id}/discard",
    operation_id = "discardQuarantined",
    tag = "quarantine",
    params(MessagePath),
    request_body(content = DiscardRequest),
    responses(
        (status = 200, description = "Discarded", body = QuarantinedBody),
        (status = "4XX", description = "Not discarded",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not discarded, or unknown",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn discard_quarantined(
    ledger: Authorized<HandleQuarantine>,
    Path(path): Path<MessagePath>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    ValidJson(request): ValidJson<DiscardRequest>,
) -> Result<Json<QuarantinedBody>, Problem> {
    let reason = LongText::parse(&request.reason).map_err(|error| Problem::member("/reason", error))?;
    let (item, stored) = waiting(&ledger, &path).await?;
    let envelope = discarding(&ledger, &item, &stored, reason).ok_or_else(|| {
        Problem::new(Kind::Internal, "cannot write the event that records who discarded the message")
    })?;
    let position = match ledger.ingest.record_own(envelope).await {
        // A conflict: an earlier request has recorded that this version is discarded, and did not come to its end.
        RecordOutcome::Recorded(position)
        | RecordOutcome::Duplicate(position)
        | RecordOutcome::Conflict(position) => position.get(),
        RecordOutcome::Refused(error) => return Err(Problem::from(&error)),
    };
    let ended = StoredMessage { state: State::Discarded, positions: vec![position], ..stored };
    end(&ledger, &item, ended.clone()).await?;
    Ok(Json(body(&item, ended)))
}

/// Returns the event that records who discarded a message, and why.
fn discarding(
    ledger: &TenantLedger,
    item: &QuarantineItem,
    stored: &StoredMessage,
    reason: LongText,
) -> Option<Envelope> {
    let text = |text: &str| ShortText::parse(text).ok();
    let activity = Activity {
        activity: text("quarantine.discarded")?,
        subject: text(&format!("{} of {}", item.key, stored.source)),
        environment: None,
        service: None,
        target: None,
        artifact: None,
        commit: None,
        outcome: None,
    };
    let unknown = || Some(Actor { kind: text("workload")?, name: text("unauthenticated client")? });
    let (actor, sender) = match ledger.tenancy().principal() {
        Some(_) => ledger.tenancy().requester(None),
        None => (unknown(), None),
    };
    let event = Event {
        payload: Payload::ActivityReported(Box::new(activity)),
        actor,
        sender,
        reason: Some(reason),
        links: Vec::new(),
        corrects: None,
    };
    let identity = Identity {
        source: Source::parse("urn:release-ledger:quarantine").ok()?,
        id: EventId::parse(&format!("{}-{}-discarded", item.key, item.version)).ok()?,
    };
    Envelope::compose(identity, ledger.now(), event).ok()
}

/// Replaces a message by the record of its end.
async fn end(ledger: &TenantLedger, item: &QuarantineItem, ended: StoredMessage) -> Result<(), Problem> {
    let ended = StoredMessage { message: None, headers: BTreeMap::new(), ..ended };
    Ok(ledger.quarantine.end(&item.key, item.version, content(&ended)?).await?)
}

fn principal(body: &PrincipalBody) -> Option<Principal> {
    let claim =
        |(name, value): (&String, &String)| Some((name.as_str().into(), ShortText::stored(value).ok()?));
    Some(Principal {
        kind: PrincipalKind::named(&body.kind)?,
        issuer: ShortText::stored(&body.issuer).ok()?,
        subject: ShortText::stored(&body.subject).ok()?,
        name: ShortText::stored(&body.name).ok()?,
        claims: body.claims.iter().map(claim).collect::<Option<_>>()?,
    })
}
