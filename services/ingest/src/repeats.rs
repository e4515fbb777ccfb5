//! The outcomes of events and requests whose identity the ledger has already.

use ledger_codec::cloudevents::Envelope;
use ledger_projections::{KnownEntry, Snapshot};

use crate::RecordOutcome;
use crate::rejection::{DecisionError, Rejection};
use crate::request::Request;

/// Returns true if an event equals the known one of its identity, from any sender. Events stored by older versions may
/// lack the content type, so that form counts as equal too.
fn is_same_event(envelope: &Envelope, known: &KnownEntry) -> bool {
    known.content == *envelope.content() || known.content == envelope.content_without_content_type()
}

/// Returns the outcome of an event of which the history has the identity.
pub(crate) fn known_outcome(envelope: &Envelope, known: &KnownEntry) -> RecordOutcome {
    if is_same_event(envelope, known) {
        RecordOutcome::Duplicate(known.position)
    } else {
        RecordOutcome::Conflict(known.position)
    }
}

/// Returns the outcome of a request that has an identity already recorded. The event of a rollback request depends on
/// the time of the decision, so the requests are compared and not their events: the first decision counts.
pub(crate) async fn repeated_outcome(
    snapshot: &mut Snapshot,
    request: &Request,
    known: &KnownEntry,
) -> Result<RecordOutcome, DecisionError> {
    let is_same = match request {
        Request::Event(envelope) => is_same_event(envelope, known),
        Request::Failed(..) | Request::Decline(..) => true,
        Request::Rollback(request) => match snapshot.rollback(&request.rollback_id).await? {
            Some(row) if request.is_same(snapshot, &row).await? => true,
            Some(row) => {
                let (rollback_id, position) = (request.rollback_id.clone(), row.requested);
                return Err(Rejection::RollbackExists { rollback_id, position, phase: row.phase }.into());
            }
            None => false,
        },
    };
    Ok(if is_same {
        RecordOutcome::Duplicate(known.position)
    } else {
        RecordOutcome::Conflict(known.position)
    })
}
