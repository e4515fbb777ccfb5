//! Submissions of a group, and the time for which it waits for them.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ledger_journal::{InterceptedJournal, Interceptor};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::gathering::{GATHERED_EVENTS, GATHERING_WINDOW};
use super::*;

/// Holds each group that is appended until it is released.
struct Hold {
    released: Semaphore,
    /// True if the journal does not acknowledge the next group, and has not recorded it.
    fails: AtomicBool,
    /// Number of events of each group so far.
    groups: watch::Sender<Vec<usize>>,
}

impl Hold {
    /// Waits until this many groups have arrived, and returns their sizes.
    async fn groups(&self, count: usize) -> Vec<usize> {
        let mut groups = self.groups.subscribe();
        groups.wait_for(|groups| groups.len() >= count).await.expect("the sender lives").clone()
    }
}

#[async_trait]
impl Interceptor for Hold {
    async fn before_append(&self, new_entries: &[NewEntry]) -> Result<(), AppendError> {
        self.groups.send_modify(|groups| groups.push(new_entries.len()));
        self.released.acquire().await.expect("never closed").forget();
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(AppendError::Unavailable("no acknowledgement".into()));
        }
        Ok(())
    }
}

/// An appender that runs over a journal that releases this many groups at once.
struct Running {
    hold: Arc<Hold>,
    queue: mpsc::UnboundedSender<Submission>,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    fn releasing(groups: usize) -> Self {
        let (tenant, clock) = (TenantName::default(), || DateTime::UNIX_EPOCH);
        let hold = Arc::new(Hold {
            released: Semaphore::new(groups),
            fails: AtomicBool::new(false),
            groups: watch::Sender::new(Vec::new()),
        });
        let journal = Arc::new(MemoryJournal::new(tenant.clone(), clock));
        let journal: SharedJournal = Arc::new(InterceptedJournal::new(journal, hold.clone()));
        let projections = no_projections();
        let decider = Decider::new(tenant.clone(), Arc::clone(&journal), projections.clone(), clock);
        let failure = RecentAppendFailure::default();
        let appender = Appender::new(tenant, journal, projections, decider, failure, clock);
        let (queue, submissions) = mpsc::unbounded_channel();
        let task = AbortOnDropHandle::new(tokio::spawn(appender.run(submissions)));
        Self { hold, queue, _task: task }
    }

    fn submit(
        &self,
        ids: impl IntoIterator<Item = u32>,
        order: &OrderedSubmission,
    ) -> oneshot::Receiver<Vec<RecordOutcome>> {
        let reports = ids.into_iter().map(|id| event(id, "v1")).collect();
        let (reply, outcomes) = oneshot::channel();
        let batch = PendingBatch { reports, order: order.clone(), reply, _permit: None };
        assert!(self.queue.send(Submission::Reports(batch)).is_ok(), "the appender runs");
        outcomes
    }

    /// Submits events of a client of its own.
    fn submit_alone(&self, ids: impl IntoIterator<Item = u32>) -> oneshot::Receiver<Vec<RecordOutcome>> {
        self.submit(ids, &OrderedSubmission::default())
    }

    fn release(&self, groups: usize) {
        self.hold.released.add_permits(groups);
    }
}

async fn outcomes(pending: oneshot::Receiver<Vec<RecordOutcome>>) -> Vec<RecordOutcome> {
    pending.await.expect("outcomes")
}

#[tokio::test(start_paused = true)]
async fn a_group_holds_all_that_were_submitted_while_the_one_before_was_in_flight() {
    let appender = Running::releasing(0);
    let first = appender.submit_alone([1]);
    appender.hold.groups(1).await;
    let others: Vec<_> = (2..=40).map(|id| appender.submit_alone([id])).collect();
    tokio::task::yield_now().await;
    // The appender has seen the others by now, and has to take this one too.
    let last = appender.submit_alone([41]);

    appender.release(2);

    assert_eq!(outcomes(first).await, [recorded(1)]);
    for (pending, position) in others.into_iter().chain([last]).zip(2..) {
        assert_eq!(outcomes(pending).await, [recorded(position)]);
    }
    assert_eq!(appender.hold.groups(2).await, [1, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_for_the_submitters_of_the_one_before() {
    let appender = Running::releasing(0);
    let first = appender.submit_alone([1]);
    appender.hold.groups(1).await;
    let second = appender.submit_alone([2]);

    appender.release(1);
    outcomes(first).await;
    let again = appender.submit_alone([3]);
    appender.release(1);

    assert_eq!((outcomes(second).await, outcomes(again).await), (vec![recorded(2)], vec![recorded(3)]));
    assert_eq!(appender.hold.groups(2).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_submits_again_at_once_is_expected_once() {
    let appender = Arc::new(Running::releasing(0));
    let order = OrderedSubmission::default();
    let first = appender.submit([1], &order);
    appender.hold.groups(1).await;
    let second = appender.submit_alone([2]);
    let client = Arc::clone(&appender);
    // Submits again before the appender has seen the end of the group.
    let again = tokio::spawn(async move {
        outcomes(first).await;
        outcomes(client.submit_alone([3])).await
    });
    tokio::task::yield_now().await;
    let started = Instant::now();

    appender.release(2);

    assert_eq!(outcomes(second).await, [recorded(2)]);
    assert_eq!(again.await.expect("outcomes"), [recorded(3)]);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(appender.hold.groups(2).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_group_does_not_wait_longer_than_the_window() {
    let appender = Running::releasing(0);
    let first = appender.submit_alone([1]);
    appender.hold.groups(1).await;
    let second = appender.submit_alone([2]);

    appender.release(2);
    outcomes(first).await;
    let answered = Instant::now();
    outcomes(second).await;

    let waited = answered.elapsed();
    let tick = Duration::from_millis(1);
    assert!((GATHERING_WINDOW..=GATHERING_WINDOW + tick).contains(&waited), "{waited:?}");
    assert_eq!(appender.hold.groups(2).await, [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_submits_alone_never_waits() {
    let appender = Running::releasing(100);
    let started = Instant::now();

    for id in 1..=10 {
        assert_eq!(outcomes(appender.submit_alone([id])).await, [recorded(id.into())]);
    }

    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_one_submission_do_not_wait_for_each_other() {
    let appender = Running::releasing(0);
    let order = OrderedSubmission::default();
    let first = appender.submit([1], &order);
    appender.hold.groups(1).await;
    let second = appender.submit([2], &order);
    let started = Instant::now();

    appender.release(2);
    outcomes(first).await;
    outcomes(second).await;

    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_group_with_many_events_waits_for_no_more() {
    let appender = Running::releasing(0);
    let first = appender.submit_alone([0]);
    appender.hold.groups(1).await;
    let events = u32::try_from(GATHERED_EVENTS).expect("a small number");
    let second = appender.submit_alone(1..=events);
    let started = Instant::now();

    appender.release(2);
    outcomes(first).await;
    outcomes(second).await;

    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(appender.hold.groups(2).await, [1, GATHERED_EVENTS]);
}

#[tokio::test(start_paused = true)]
async fn events_that_waited_behind_a_failed_one_of_their_order_are_refused() {
    let appender = Running::releasing(0);
    let order = OrderedSubmission::default();
    let first = appender.submit([1], &order);
    appender.hold.groups(1).await;
    // So many are looked up before the first one has failed.
    let later = appender.submit(2..=2 + 200, &order);
    let other = appender.submit_alone([500]);
    tokio::task::yield_now().await;

    appender.hold.fails.store(true, Ordering::Relaxed);
    appender.release(2);

    let lost = AppendError::Unavailable("no acknowledgement".into());
    assert_eq!(outcomes(first).await, [RecordOutcome::Refused(RecordError::Journal(lost))]);
    let refused = RecordOutcome::Refused(RecordError::PredecessorFailed);
    assert!(outcomes(later).await.iter().all(|outcome| *outcome == refused));
    assert_eq!(outcomes(other).await, [recorded(1)]);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_queued_is_appended_before_the_appender_ends() {
    let appender = Running::releasing(0);
    let first = appender.submit_alone([1]);
    appender.hold.groups(1).await;
    let second = appender.submit_alone([2]);
    let Running { hold, queue, _task: task } = appender;
    drop(queue);

    hold.released.add_permits(2);

    task.await.expect("the appender ends");
    assert_eq!((outcomes(first).await, outcomes(second).await), (vec![recorded(1)], vec![recorded(2)]));
}
