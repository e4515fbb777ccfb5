//! Submissions that wait for the appender, and the order in which they are taken.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::clock_reading::ClockReading;
use super::{DecidedRequest, PendingBatch, PendingEntry, Submission};

/// Age at which a look-up no longer holds: it counts on the journal's duplicate window for what was recorded since.
const MAX_LOOKUP_AGE: Duration = Duration::from_secs(10);

/// Limits at which a group is complete.
#[derive(Clone, Copy)]
pub(super) struct GroupBounds {
    /// Number of events.
    pub(super) events: usize,
    /// Bytes of events. Only small batches are added to a group that has them.
    pub(super) bytes: usize,
    /// Maximum size of a small batch in bytes.
    pub(super) small_bytes: usize,
}

/// Submissions that wait to be appended.
#[derive(Default)]
pub(super) struct WaitingSubmissions {
    /// Number of submissions so far.
    arrived: u64,
    batches: VecDeque<WaitingBatch>,
    /// Each with the number of its arrival.
    requests: VecDeque<(u64, Box<DecidedRequest>)>,
    /// Number of events in the batches.
    events: usize,
    /// Number of these events that are looked up.
    looked_up: usize,
}

/// A batch that waits, with the number of its arrival.
pub(super) struct WaitingBatch {
    arrived: u64,
    /// Bytes of its events.
    bytes: usize,
    pub(super) batch: PendingBatch,
    /// `None` until its events are looked up.
    pub(super) lookup: Option<Lookup>,
}

/// Result of a look-up in the history for the events of a batch.
pub(super) struct Lookup {
    /// Epoch of the history for which it holds, read before it.
    pub(super) history_epoch: u64,
    /// Time at which it began.
    pub(super) at: ClockReading,
    /// One for each event.
    pub(super) entries: Vec<PendingEntry>,
}

impl WaitingBatch {
    /// Returns true if the events were looked up in the current history, and not long ago.
    pub(super) fn is_looked_up(&self, history_epoch: u64, now: ClockReading) -> bool {
        let lookup = self.lookup.as_ref().filter(|lookup| lookup.history_epoch == history_epoch);
        lookup.is_some_and(|lookup| now.is_within(MAX_LOOKUP_AGE, lookup.at))
    }
}

impl WaitingSubmissions {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.requests.is_empty()
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Returns the number of events in the batches that wait.
    pub(super) const fn events(&self) -> usize {
        self.events
    }

    /// Returns the number of events that are not looked up.
    pub(super) const fn not_looked_up(&self) -> usize {
        self.events - self.looked_up
    }

    /// Returns the number of events that are looked up.
    pub(super) const fn looked_up(&self) -> usize {
        self.looked_up
    }

    pub(super) fn batches(&self) -> impl ExactSizeIterator<Item = &PendingBatch> {
        self.batches.iter().map(|waiting| &waiting.batch)
    }

    pub(super) fn push(&mut self, submission: Submission) {
        self.arrived += 1;
        match submission {
            Submission::Reports(batch) => {
                self.events += batch.reports.len();
                let bytes = batch.reports.iter().map(|envelope| envelope.bytes().len()).sum();
                let (arrived, lookup) = (self.arrived, None);
                self.batches.push_back(WaitingBatch { arrived, bytes, batch, lookup });
            }
            Submission::Request(request) => self.requests.push_back((self.arrived, request)),
        }
    }

    /// Returns the oldest batches that are not looked up, until `size` events of those that wait are. The caller looks
    /// them up.
    pub(super) fn next_to_look_up(&mut self, size: usize) -> Vec<&mut WaitingBatch> {
        let mut next = Vec::new();
        for waiting in self.batches.iter_mut().filter(|waiting| waiting.lookup.is_none()) {
            if self.looked_up >= size {
                break;
            }
            self.looked_up += waiting.batch.reports.len();
            next.push(waiting);
        }
        next
    }

    /// Takes batches until a bound is reached or none is left: first the oldest batch of each ordered submission, so
    /// that a large one does not delay the others, then further batches by age.
    pub(super) fn take_group(&mut self, bounds: GroupBounds) -> Vec<WaitingBatch> {
        let mut group = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let mut orders = HashSet::new();
        for takes_further_batches in [false, true] {
            let mut left = VecDeque::new();
            // Batches of an order after one that is left are left too: they keep their order.
            let mut left_orders = HashSet::new();
            for waiting in self.batches.drain(..) {
                let order = waiting.batch.order.id();
                let is_next =
                    !left_orders.contains(&order) && (takes_further_batches || !orders.contains(&order));
                let fits = bytes < bounds.bytes || waiting.bytes <= bounds.small_bytes;
                if is_next && fits && events < bounds.events {
                    orders.insert(order);
                    let taken = waiting.batch.reports.len();
                    events += taken;
                    bytes += waiting.bytes;
                    self.events -= taken;
                    if waiting.lookup.is_some() {
                        self.looked_up -= taken;
                    }
                    group.push(waiting);
                } else {
                    left_orders.insert(order);
                    left.push_back(waiting);
                }
            }
            self.batches = left;
        }
        group
    }

    /// Takes the oldest request, unless reports that arrived before it still wait.
    pub(super) fn take_request(&mut self) -> Option<Box<DecidedRequest>> {
        let (arrived, _) = self.requests.front()?;
        if self.batches.front().is_some_and(|waiting| waiting.arrived < *arrived) {
            return None;
        }
        Some(self.requests.pop_front()?.1)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use ledger_codec::cloudevents::Envelope;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::OrderedSubmission;
    use crate::request::Request;

    fn event(id: &str) -> Envelope {
        let json = format!(
            r#"{{"specversion": "1.0", "id": "{id}", "source": "urn:test",
                "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
                "data": {{"environment": "production", "service": "web", "release": {{"version": "v1"}}}}}}"#
        );
        Envelope::parse(json.as_bytes()).expect("an event")
    }

    fn reports(order: &OrderedSubmission, ids: &[&str]) -> Submission {
        let reports = ids.iter().map(|id| event(id)).collect();
        let (reply, _) = oneshot::channel();
        Submission::Reports(PendingBatch { reports, order: order.clone(), reply, _permit: None })
    }

    fn request(id: &str) -> Submission {
        let (reply, _) = oneshot::channel();
        let request = Request::Event(Box::new(event(id))).into();
        let (order, deadline) = (OrderedSubmission::default(), Instant::now());
        let decided = DecidedRequest { request, decision: None, order, deadline, reply, _permit: None };
        Submission::Request(Box::new(decided))
    }

    fn waiting(submissions: impl IntoIterator<Item = Submission>) -> WaitingSubmissions {
        let mut waiting = WaitingSubmissions::default();
        submissions.into_iter().for_each(|submission| waiting.push(submission));
        waiting
    }

    fn events(number: usize) -> GroupBounds {
        GroupBounds { events: number, bytes: usize::MAX, small_bytes: 0 }
    }

    fn group(waiting: &mut WaitingSubmissions, size: usize) -> Vec<String> {
        group_within(waiting, events(size))
    }

    fn group_within(waiting: &mut WaitingSubmissions, bounds: GroupBounds) -> Vec<String> {
        let batches = waiting.take_group(bounds);
        let events = batches.iter().flat_map(|waiting| &waiting.batch.reports);
        events.map(|event| event.identity().id.as_str().to_owned()).collect()
    }

    #[test]
    fn a_group_takes_one_batch_of_each_client_before_a_second_one() {
        let (large, small) = (OrderedSubmission::default(), OrderedSubmission::default());
        let mut waiting = waiting([
            reports(&large, &["a1", "a2"]),
            reports(&large, &["a3", "a4"]),
            reports(&large, &["a5"]),
            reports(&small, &["b1"]),
        ]);

        assert_eq!(group(&mut waiting, 4), ["a1", "a2", "b1", "a3", "a4"]);
        assert_eq!(group(&mut waiting, 4), ["a5"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn batches_of_one_submission_keep_their_order() {
        let (one, other) = (OrderedSubmission::default(), OrderedSubmission::default());
        let mut waiting = waiting([
            reports(&one, &["a1"]),
            reports(&other, &["b1"]),
            reports(&one, &["a2"]),
            reports(&one, &["a3"]),
        ]);

        assert_eq!(group(&mut waiting, 2), ["a1", "b1"]);
        assert_eq!(group(&mut waiting, 1), ["a2"]);
        assert_eq!(group(&mut waiting, 9), ["a3"]);
    }

    #[test]
    fn a_group_with_enough_bytes_takes_only_small_batches_and_keeps_their_order() {
        let orders: Vec<OrderedSubmission> = (0..4).map(|_| OrderedSubmission::default()).collect();
        let mut waiting = waiting([
            reports(&orders[0], &["a1", "a2"]),
            reports(&orders[1], &["b1", "b2"]),
            reports(&orders[2], &["c1", "c2"]),
            reports(&orders[2], &["c3"]),
            reports(&orders[3], &["d1"]),
        ]);
        let small_bytes = event("a1").bytes().len();
        let bounds = GroupBounds { events: 100, bytes: 3 * small_bytes, small_bytes };

        assert_eq!(group_within(&mut waiting, bounds), ["a1", "a2", "b1", "b2", "d1"]);
        assert_eq!(group_within(&mut waiting, bounds), ["c1", "c2", "c3"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_request_is_taken_after_the_reports_that_arrived_before_it() {
        let order = OrderedSubmission::default();
        let mut waiting = waiting([
            reports(&order, &["a1"]),
            reports(&order, &["a2"]),
            request("r1"),
            reports(&order, &["a3"]),
        ]);

        assert!(waiting.take_request().is_none());
        assert_eq!(group(&mut waiting, 1), ["a1"]);
        assert!(waiting.take_request().is_none());
        assert_eq!(group(&mut waiting, 1), ["a2"]);
        let taken = waiting.take_request().expect("a request");

        assert_eq!(taken.request.identity().id.as_str().to_owned(), "r1");
        assert_eq!(group(&mut waiting, 1), ["a3"]);
    }

    #[test]
    fn the_oldest_batches_are_looked_up_first_and_only_once() {
        let orders: Vec<OrderedSubmission> = (0..3).map(|_| OrderedSubmission::default()).collect();
        let mut waiting = waiting([
            reports(&orders[0], &["a1", "a2"]),
            reports(&orders[1], &["b1", "b2"]),
            reports(&orders[2], &["c1"]),
        ]);
        let now = ClockReading { monotonic: Instant::now(), wall: DateTime::UNIX_EPOCH };
        let lookup = || Some(Lookup { history_epoch: 1, at: now, entries: Vec::new() });

        let first = waiting.next_to_look_up(3);
        assert_eq!(first.len(), 2);
        first.into_iter().for_each(|batch| batch.lookup = lookup());
        assert_eq!((waiting.looked_up(), waiting.not_looked_up()), (4, 1));
        assert!(waiting.next_to_look_up(3).is_empty());
        let taken = waiting.take_group(events(3));

        assert_eq!(taken.len(), 2);
        let late =
            ClockReading { monotonic: now.monotonic + MAX_LOOKUP_AGE + Duration::from_millis(1), ..now };
        let resumed = ClockReading { wall: now.wall + TimeDelta::seconds(11), ..now };
        for batch in &taken {
            assert!(batch.is_looked_up(1, now));
            assert!(!batch.is_looked_up(2, now) && !batch.is_looked_up(1, late));
            assert!(!batch.is_looked_up(1, resumed));
        }
        assert_eq!((waiting.events(), waiting.looked_up()), (1, 0));
        assert_eq!(waiting.next_to_look_up(3).len(), 1);
    }
}
