//! Recording of messages: their events are read and recorded, or the reason why not is returned.

use ledger_adapters::translation::{NotUnderstood, Translation};
use ledger_api_types::{DeliveryBody, EventResult, EventStatus};
use ledger_codec::cloudevents::Envelope;
use ledger_ingest::{RecordError, RecordOutcome};

use crate::event_message::read_events;
use crate::event_result::{add_annotations, denied_result, id_and_source, is_recorded, outcome_result};
use crate::foreign::{Message, MessageSource};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Outcome of a message.
#[derive(Debug)]
pub(crate) enum MessageOutcome {
    /// Its events, each recorded or not; and a part of it that cannot be understood, if there is one.
    Events(Vec<EventResult>, Option<Box<FaultyMessage>>),
    /// The ledger records nothing for it, for this reason.
    Ignored(String),
}

/// A message that cannot be understood, to be quarantined: a part of one that arrived.
#[derive(Debug)]
pub(crate) struct FaultyMessage {
    pub(crate) message: Message,
    pub(crate) fault: NotUnderstood,
}

/// Returns the answer to a message with this status and nothing else.
pub(crate) fn delivery(status: &str) -> DeliveryBody {
    DeliveryBody {
        status: status.to_owned(),
        events: Vec::new(),
        detail: None,
        pointer: None,
        quarantine_id: None,
    }
}

/// Reason why a message is not recorded.
pub(crate) enum MessageError {
    /// It cannot be understood.
    NotUnderstood(NotUnderstood),
    /// Its events cannot be recorded now: send it again.
    Problem(Problem),
}

/// Events of a message, or the reason why it has none.
pub(crate) enum Meaning {
    /// The ledger records nothing for it, for this reason.
    Ignored(String),
    /// Events that can be recorded; and the first fault, if the message or a part of it cannot be understood.
    Events(Vec<Envelope>, Option<NotUnderstood>),
    /// Events of what was understood, and a message with the rest.
    Partial(Vec<Envelope>, Box<FaultyMessage>),
}

/// Reads the events of a message with the present program and settings.
///
/// # Errors
/// The message is too large, or contains a secret: it is rejected, and must not be quarantined.
pub(crate) fn read(ledger: &TenantLedger, message: &Message) -> Result<Meaning, Problem> {
    let translated = match &message.source {
        MessageSource::Events => {
            let (events, fault) = read_events(ledger.app(), message)?;
            return Ok(Meaning::Events(events, fault));
        }
        MessageSource::Hook(name) => message.translate_hook(name, ledger),
        MessageSource::CdEvents => message.translate_cdevent(&ledger.app().cdevents),
    };
    let envelopes = match translated {
        Ok(Translation::Ignored(reason)) => return Ok(Meaning::Ignored(reason)),
        Ok(Translation::Events(events)) => message.envelopes(&events),
        Ok(Translation::Partial(part)) => {
            return Ok(match message.envelopes_of_part(&part.events) {
                Ok(envelopes) => {
                    let rest = Message { body: part.rest.into(), ..message.clone() };
                    let faulty = FaultyMessage { message: rest, fault: part.fault };
                    Meaning::Partial(envelopes, Box::new(faulty))
                }
                Err(error) => Meaning::Events(Vec::new(), Some(error)),
            });
        }
        Err(error) => Err(error),
    };
    Ok(match envelopes {
        Ok(envelopes) => Meaning::Events(envelopes, None),
        Err(error) => Meaning::Events(Vec::new(), Some(error)),
    })
}

/// Translates a message and records its events, in the name of the sender of the ledger's tenancy.
///
/// All events are recorded, or those that the ledger accepts; an event that cannot be recorded now fails the whole
/// message, so that its sender delivers it again. Events that were recorded are then duplicates. The caller quarantines a
/// part that cannot be understood, after its events: if that fails, the sender delivers all of it again.
pub(crate) async fn record_message(
    ledger: &TenantLedger,
    message: &Message,
) -> Result<MessageOutcome, MessageError> {
    let (envelopes, faulty) = match read(ledger, message).map_err(MessageError::Problem)? {
        Meaning::Ignored(reason) => return Ok(MessageOutcome::Ignored(reason)),
        Meaning::Events(_, Some(error)) => return Err(MessageError::NotUnderstood(error)),
        Meaning::Events(envelopes, None) => (envelopes, None),
        Meaning::Partial(envelopes, faulty) => (envelopes, Some(faulty)),
    };
    ledger.tenancy().count_received(envelopes.len());
    let mut results = Vec::with_capacity(envelopes.len());
    let mut accepted = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        let id_and_source = id_and_source(&envelope);
        results.push(match ledger.accept(envelope).await {
            Ok(envelope) => {
                accepted.push(envelope);
                Err(id_and_source)
            }
            Err(problem) => Ok(denied_result(id_and_source, problem)),
        });
    }
    let mut outcomes = ledger.ingest.record(accepted).await.into_iter();
    let mut outcome = || outcomes.next().unwrap_or(RecordOutcome::Refused(RecordError::Closing));
    let mut recorded = 0;
    let mut results: Vec<EventResult> = results
        .into_iter()
        .map(|result| {
            result.unwrap_or_else(|id_and_source| {
                let outcome = outcome();
                recorded += usize::from(is_recorded(&outcome));
                outcome_result(id_and_source, &outcome)
            })
        })
        .collect();
    ledger.tenancy().stats().add_recorded(recorded);
    if let Some(refused) = results.iter().find(|result| result.status == EventStatus::Refused) {
        let problem = refused.problem.clone().map(Problem::from);
        let unknown = || Problem::new(Kind::JournalUnavailable, "the event is not recorded; send it again");
        return Err(MessageError::Problem(problem.unwrap_or_else(unknown)));
    }
    add_annotations(ledger, &mut results).await;
    Ok(MessageOutcome::Events(results, faulty))
}
