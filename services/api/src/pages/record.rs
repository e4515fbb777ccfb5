//! Events that forms of pages record.

use chrono::SecondsFormat;
use ledger_api_types::{EntryBody, EventResult, EventStatus};
use ledger_domain::{Kind as EventKind, Principal};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::tenant_page::TenantPage;
use crate::problem::{Kind, Problem};

/// Source of the events that forms of pages record. With the event id in the form, it identifies an event.
const SOURCE: &str = "release-ledger-pages";

/// Records the event of a form, with the authenticated sender as its actor, and returns its position. The event has the id
/// that is in the form, so a form that is sent again is recorded once.
///
/// # Errors
/// The service does not authenticate its clients, or the event is not recorded.
pub(super) async fn record(
    page: &TenantPage,
    event_id: Uuid,
    kind: EventKind,
    members: &[(&str, Option<&str>)],
    release: Option<Value>,
) -> Result<u64, Problem> {
    let sender = page.sender()?;
    let actor = sender.actor(None);
    let given = members.iter().filter_map(|(name, value)| Some(((*name).to_owned(), Value::from((*value)?))));
    let mut data: Map<String, Value> = given.collect();
    data.extend(release.map(|release| ("release".to_owned(), release)));
    data.insert("actor".to_owned(), json!({"type": actor.kind.as_str(), "name": actor.name.as_str()}));
    let data = Value::Object(data);
    let event = json!({
        "specversion": "1.0",
        "id": event_id.to_string(),
        "source": SOURCE,
        "type": kind.event_type(),
        "time": page.now()?.to_rfc3339_opts(SecondsFormat::Millis, true),
        "datacontenttype": "application/json",
        "data": data,
    });
    // As a batch: its result states the position of an earlier event with this id.
    let path = page.api_path("/events");
    let results: Vec<EventResult> =
        page.api.post(&path, "application/cloudevents-batch+json", &[event]).await?;
    let missing = || Problem::new(Kind::Internal, "the API returned no result for the event");
    let EventResult { status, position, problem, .. } = results.into_iter().next().ok_or_else(missing)?;
    match (status, position) {
        (status, Some(position)) if status.is_recorded() => Ok(position),
        (EventStatus::Conflict, Some(position)) => {
            check_sent_before(page, sender, kind, &data, position).await.map(|()| position)
        }
        _ => Err(problem.map_or_else(missing, Problem::from)),
    }
}

/// Checks that the event at a position has the same type, data and sender. Its time may differ: it is that of the first
/// attempt.
async fn check_sent_before(
    page: &TenantPage,
    sender: &Principal,
    kind: EventKind,
    data: &Value,
    position: u64,
) -> Result<(), Problem> {
    let path = page.api_path(&format!("/events/{position}?wait_for={position}"));
    let known: EntryBody<Value> = match page.api.get(&path).await.map_err(Problem::into_body) {
        Ok(known) => known,
        Err(problem) if matches!(problem.status, 403 | 404) => {
            let detail = format!(
                "this form was sent before, and is recorded at position {position}, which you may not read; a changed \
                 form is not recorded: load the page again to send another one"
            );
            return Err(Problem::new(Kind::IdentityConflict, detail));
        }
        Err(problem) => return Err(problem.into()),
    };
    let is_own = known.principal.is_some_and(|principal| {
        principal.issuer == sender.issuer.as_str() && principal.subject == sender.subject.as_str()
    });
    if is_own && known.event["type"] == kind.event_type() && known.event["data"] == *data {
        return Ok(());
    }
    let detail = format!(
        "this form was sent before with another decision or by another person, and is recorded at position {position}; \
         load the page again to send another one"
    );
    Err(Problem::new(Kind::IdentityConflict, detail))
}
