//! Gathers the next group: all waiting submissions, and those that are expected within a moment.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::waiting::WaitingSubmissions;
use super::{PendingBatch, Submission};

/// Time after a group has its outcomes in which its submitters are expected to submit again. Each group costs the journal
/// about as long beyond its events, so that one group instead of two is worth it. The timer has whole milliseconds: a
/// wait takes up to one more.
pub(super) const GATHERING_WINDOW: Duration = Duration::from_micros(1_500);
/// Number of events for which a group waits no longer: its cost is that of its events then.
pub(super) const GATHERED_EVENTS: usize = 256;
/// One submitter in this many is not waited for: some have nothing more to record.
const ABSENT_SHARE: usize = 8;

/// Ordered submissions of the group in flight.
pub(super) struct Orders(HashSet<usize>);

/// The submitters that are expected to have another submission soon.
pub(super) struct ExpectedSubmitters {
    count: usize,
    until: Instant,
}

impl Orders {
    pub(super) fn of<'b>(batches: impl Iterator<Item = &'b PendingBatch>) -> Self {
        Self(batches.map(|batch| batch.order.id()).collect())
    }

    /// Returns who is expected when the group has its outcomes: its submitters, beside those who wait already. A client
    /// that submits in several parts is one of them.
    pub(super) fn expected_again(mut self, waiting: &WaitingSubmissions) -> ExpectedSubmitters {
        // Further ones do not matter: enough events wait already.
        self.0.extend(waiting.batches().take(GATHERED_EVENTS).map(|batch| batch.order.id()));
        ExpectedSubmitters { count: self.0.len(), until: Instant::now() + GATHERING_WINDOW }
    }
}

impl ExpectedSubmitters {
    /// Returns true if the next group need not wait.
    fn have_come(&self, waiting: &WaitingSubmissions) -> bool {
        waiting.has_requests()
            || waiting.events() >= GATHERED_EVENTS
            || waiting.batches().len() >= self.count - self.count / ABSENT_SHARE
    }
}

/// Receives all that is queued. If submitters are expected, waits for them, at most until the end of the
/// [`GATHERING_WINDOW`]. A client that submits alone never waits: it is the only one that is expected.
pub(super) async fn gather(
    queue: &mut mpsc::UnboundedReceiver<Submission>,
    waiting: &mut WaitingSubmissions,
    expected: Option<ExpectedSubmitters>,
) {
    receive_queued(queue, waiting);
    let Some(expected) = expected else { return };
    if expected.have_come(waiting) {
        return;
    }
    let window_end = sleep_until(expected.until);
    tokio::pin!(window_end);
    while !expected.have_come(waiting) {
        tokio::select! {
            biased;
            submission = queue.recv() => match submission {
                Some(submission) => waiting.push(submission),
                // No more can come.
                None => return,
            },
            () = &mut window_end => return,
        }
    }
    receive_queued(queue, waiting);
}

/// Receives all that is queued.
pub(super) fn receive_queued(
    queue: &mut mpsc::UnboundedReceiver<Submission>,
    waiting: &mut WaitingSubmissions,
) {
    while let Ok(submission) = queue.try_recv() {
        waiting.push(submission);
    }
}
