//! Envelopes of events that this process recorded, by position: its projector takes them and need not parse the entries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::Position;

/// Maximum number of envelopes that wait for the projector.
const MAX_ENVELOPES: usize = 20_000;
/// Maximum number of bytes of their events, as stored and as sent. The parsed forms take about as much again.
const MAX_BYTES: usize = 8 << 20;

/// Envelopes that wait for the projector, at most [`MAX_ENVELOPES`] with [`MAX_BYTES`]. Clones share them.
///
/// They save work and decide nothing: an envelope is taken only for an entry that has exactly its bytes.
#[derive(Clone, Default)]
pub(crate) struct RecordedEnvelopes(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// By ascending position.
    envelopes: VecDeque<(Position, Box<Envelope>)>,
    bytes: usize,
}

/// Returns the number of bytes that an envelope has of its event: as stored, and as sent if that differs.
fn byte_len(envelope: &Envelope) -> usize {
    let (bytes, content) = (envelope.bytes(), envelope.content());
    let is_shared = bytes.as_ptr() == content.as_ptr();
    bytes.len() + if is_shared { 0 } else { content.len() }
}

impl RecordedEnvelopes {
    /// Adds envelopes by ascending position. When they are full, adds no more: the projector needs the oldest first.
    pub(crate) fn extend(&self, recorded: impl IntoIterator<Item = (Position, Envelope)>) {
        let mut waiting = self.lock();
        for (position, envelope) in recorded {
            if waiting.envelopes.back().is_some_and(|(last, _)| *last >= position) {
                // Another journal, or an older copy of it, assigns these positions again.
                *waiting = Waiting::default();
            }
            let bytes = waiting.bytes + byte_len(&envelope);
            if waiting.envelopes.len() == MAX_ENVELOPES || bytes > MAX_BYTES {
                return;
            }
            waiting.bytes = bytes;
            waiting.envelopes.push_back((position, Box::new(envelope)));
        }
    }

    pub(crate) fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    /// Takes the envelope of the entry at a position, if it waits and has the bytes of the entry. Drops those of earlier
    /// positions: a reader has passed them.
    pub(crate) fn take(&self, position: Position, bytes: &Bytes) -> Option<Box<Envelope>> {
        let mut waiting = self.lock();
        while waiting.envelopes.front().is_some_and(|(first, _)| *first <= position) {
            let (first, envelope) = waiting.envelopes.pop_front()?;
            waiting.bytes -= byte_len(&envelope);
            if first == position {
                return (envelope.bytes() == bytes).then_some(envelope);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger_domain::{Principal, PrincipalKind, ShortText};

    use super::*;

    fn event(id: u64) -> Envelope {
        let json = format!(
            r#"{{"specversion": "1.0", "id": "{id}", "source": "urn:test",
                "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
                "data": {{"environment": "production", "service": "web", "release": {{"version": "v1"}}}}}}"#
        );
        Envelope::parse(json.as_bytes()).expect("an event")
    }

    fn recorded(numbers: impl IntoIterator<Item = u64>) -> RecordedEnvelopes {
        let recorded = RecordedEnvelopes::default();
        recorded.extend(numbers.into_iter().map(|number| (Position::new(number), event(number))));
        recorded
    }

    fn is_taken(recorded: &RecordedEnvelopes, number: u64) -> bool {
        let event = event(number);
        let taken = recorded.take(Position::new(number), event.bytes());
        assert!(taken.as_ref().is_none_or(|taken| **taken == event));
        taken.is_some()
    }

    #[test]
    fn an_envelope_is_taken_once_at_its_position() {
        let recorded = recorded([3, 4, 6]);

        assert!(!is_taken(&recorded, 2));
        assert!(is_taken(&recorded, 3));
        assert!(!is_taken(&recorded, 3));
        assert!(!is_taken(&recorded, 5));
        assert!(is_taken(&recorded, 6));
    }

    #[test]
    fn an_envelope_with_other_bytes_than_the_entry_is_not_taken() {
        let recorded = recorded([3, 4]);

        assert!(recorded.take(Position::new(3), event(7).bytes()).is_none());
        assert!(is_taken(&recorded, 4));
    }

    #[test]
    fn envelopes_that_a_reader_has_passed_are_dropped() {
        let recorded = recorded([3, 4, 5]);

        assert!(is_taken(&recorded, 5));

        let waiting = recorded.lock();
        assert_eq!((waiting.envelopes.len(), waiting.bytes), (0, 0));
    }

    #[test]
    fn positions_that_are_assigned_again_replace_the_earlier_ones() {
        let recorded = recorded([8, 9]);

        recorded.extend([(Position::new(2), event(2))]);

        assert!(is_taken(&recorded, 2));
        assert!(!is_taken(&recorded, 9));
    }

    #[test]
    fn an_event_as_sent_counts_beside_its_stored_form() {
        let text = |text| ShortText::parse(text).expect("a text");
        let sender = Principal {
            kind: PrincipalKind::Person,
            issuer: text("https://login.example"),
            subject: text("ada"),
            name: text("Ada"),
            claims: BTreeMap::new(),
        };
        let plain = event(1);
        let sent = plain.clone().sent_by(&sender).expect("an event with its sender");

        assert_eq!(byte_len(&plain), plain.bytes().len());
        assert_eq!(byte_len(&sent), sent.bytes().len() + plain.bytes().len());
    }

    #[test]
    fn full_envelopes_take_no_more_until_a_reader_has_advanced() {
        let full = MAX_ENVELOPES as u64;
        let one = event(1);
        let recorded = RecordedEnvelopes::default();
        recorded.extend((1..=full + 1).map(|number| (Position::new(number), one.clone())));
        let count = recorded.lock().envelopes.len();

        let first = recorded.take(Position::new(1), one.bytes());
        recorded.extend([(Position::new(full + 2), one.clone())]);

        assert_eq!(count, MAX_ENVELOPES);
        assert!(first.is_some());
        assert!(recorded.lock().envelopes.back().is_some_and(|(last, _)| last.get() == full + 2));
    }
}
