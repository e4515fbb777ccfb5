//! Representation of an entry.

use bytes::Bytes;
use ledger_adapters::cdevents;
use ledger_api_types::EntryBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Event, Position};
use ledger_projections::EventRow;
use serde_json::value::RawValue;

use crate::access::principal_body;
use crate::problem::{Kind, Problem};

/// Returns an event as a CDEvent.
pub(crate) fn cdevent(row: &EventRow) -> Result<serde_json::Value, Problem> {
    let envelope = Envelope::stored(row.bytes.clone()).map_err(|error| {
        Problem::new(
            Kind::Internal,
            format!("the event at position {} cannot be read: {error}", row.position),
        )
    })?;
    Ok(cdevents::write(&envelope, row.position))
}

/// Returns the event of an entry, if it has an authenticated sender.
fn sender(bytes: &Bytes) -> Option<Event> {
    let envelope = Envelope::stored(bytes.clone()).ok()?;
    envelope.event().sender.is_some().then(|| envelope.event().clone())
}

/// Returns the body of an entry as JSON, for receivers outside of the API.
///
/// # Errors
/// Says why the entry cannot be written: its stored bytes are not JSON.
pub fn entry_json(row: EventRow) -> Result<Vec<u8>, String> {
    let body = entry_body(row).map_err(|problem| problem.into_body().detail)?;
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

/// Returns the body of an entry. It fails if the stored bytes are not JSON.
pub(crate) fn entry_body(row: EventRow) -> Result<EntryBody, Problem> {
    let EventRow { entry: row, anomalies, returns_to, corrected_by } = row;
    let sent = sender(&row.bytes);
    let actor = sent.as_ref().and_then(|event| event.actor.as_ref()).map(Into::into);
    let principal = sent.and_then(|event| event.sender).map(|sender| principal_body(&sender.principal));
    let text = std::str::from_utf8(&row.bytes).ok();
    let event = text.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let occurred_at = row.occurred_at;
    let ahead = (occurred_at - row.recorded_at).num_milliseconds();
    Ok(EntryBody {
        position: row.position.get(),
        recorded_at: row.recorded_at,
        leaf_hash: row.leaf_hash.to_string(),
        repeats: row.repeats.map(Position::get),
        anomalies,
        new: row.first_of,
        went_live: row.went_live,
        target: row.target,
        targets: row.targets,
        returns_to: returns_to.map(Position::get),
        corrected_by: corrected_by.map(Position::get),
        clock_ahead_ms: (ahead > 0).then_some(ahead),
        principal,
        actor,
        event: event.ok_or_else(|| {
            Problem::from(ledger_projections::Error::Inconsistent {
                table: "events",
                row: row.position.to_string(),
                detail: "its bytes are not JSON".into(),
            })
        })?,
    })
}
