//! What waits for the appender, and the order in which it is taken.

use std::collections::{HashSet, VecDeque};

use super::{DecidedRequest, PendingBatch, Submission};

/// Submissions that wait to be appended, each with the number of its arrival.
#[derive(Default)]
pub(super) struct WaitingSubmissions {
    arrived: u64,
    batches: VecDeque<(u64, PendingBatch)>,
    requests: VecDeque<(u64, Box<DecidedRequest>)>,
}

impl WaitingSubmissions {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.requests.is_empty()
    }

    pub(super) fn push(&mut self, submission: Submission) {
        self.arrived += 1;
        match submission {
            Submission::Reports(batch) => self.batches.push_back((self.arrived, batch)),
            Submission::Request(request) => self.requests.push_back((self.arrived, request)),
        }
    }

    /// Takes batches until they hold `size` events or none is left: first the oldest batch of each ordered submission,
    /// so that a large one does not delay the others, then further batches by age.
    pub(super) fn take_group(&mut self, size: usize) -> Vec<PendingBatch> {
        let mut group = Vec::new();
        let mut events = 0;
        let mut orders = HashSet::new();
        for takes_further_batches in [false, true] {
            let mut left = VecDeque::new();
            for (arrived, batch) in self.batches.drain(..) {
                // All batches of an order after one that is left are left too: they have the same order.
                if events < size && (orders.insert(batch.order.id()) || takes_further_batches) {
                    events += batch.reports.len();
                    group.push(batch);
                } else {
                    left.push_back((arrived, batch));
                }
            }
            self.batches = left;
        }
        group
    }

    /// Takes the oldest request, unless reports that arrived before it still wait.
    pub(super) fn take_request(&mut self) -> Option<Box<DecidedRequest>> {
        let (arrived, _) = self.requests.front()?;
        if self.batches.front().is_some_and(|(batch, _)| batch < arrived) {
            return None;
        }
        Some(self.requests.pop_front()?.1)
    }
}

#[cfg(test)]
mod tests {
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

    fn group(waiting: &mut WaitingSubmissions, size: usize) -> Vec<String> {
        let batches = waiting.take_group(size);
        let events = batches.iter().flat_map(|batch| &batch.reports);
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
}
