//! A client that follows entries: first those of the tables, then those of the feed, until it joins the feed; back to
//! the tables whenever the client reads more slowly than entries are recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, StreamExt as _, stream};
use ledger_domain::Position;
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::answers::CountedBytes;
use crate::budget::{Exhausted, FREE_BYTES, Share};
use crate::entry_feed::{Batch, FeedHandle, Page, PageSize, read_page};
use crate::feed_entry::{Selection, frame, server_sent_event};
use crate::request_stats::Shown;
use crate::tenant::TenantLedger;

/// Interval of comments. Without them, the service and the proxies before it would not notice that a client is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// Longest time after which the client has the position up to which it has all entries, and after which its right to
/// read is checked again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// Size of a page for one follower.
const CATCH_UP_PAGE: PageSize = PageSize { entries: 256, bytes: 128 << 10 };

/// Pause after the projections could not be read, or the answers took too much memory.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Time for which a follower waits until other clients have taken their answers.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(60);

/// Memory for a page while it is read: as stored, with the entry that reaches the bound, and serialized.
const CATCH_UP_BYTES: usize = 512 << 10;
/// Reads of the tables without a result, one after the other, after which the stream ends: half a minute at least.
const MAX_FAILURES: u32 = 150;

/// Reason why the service closes a stream, other than shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndReason {
    /// The client lost the right to read.
    Forbidden,
    /// The projections have another history.
    Replaced,
    /// Unread answers take too much memory for too long.
    Memory,
    /// The tables cannot be read.
    Unreadable,
}

impl EndReason {
    /// Returns the label of the reason in the metric, and what the client receives.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Forbidden => ("forbidden", "the client may not read it any more"),
            Self::Replaced => ("replaced", "the projections were replaced"),
            Self::Memory => ("memory", "all unread answers take too much memory"),
            Self::Unreadable => ("unreadable", "the entries cannot be read"),
        }
    }
}

/// Form in which the client receives its position while no entry is for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The event `position`.
    Event,
    /// An id without data. An `EventSource` keeps it, and dispatches no event.
    Id,
}

/// A client that follows entries.
pub(super) struct Follower {
    ledger: TenantLedger,
    feed: FeedHandle,
    /// End of the feed's log.
    end: watch::Receiver<Position>,
    selection: Selection,
    progress: Progress,
    /// Position up to which the client has all entries.
    after: Position,
    /// Position that the client has as the id of its last event.
    sent: Option<Position>,
    /// Time at which the client receives its position, unless it has it.
    progress_at: Instant,
    /// Reads of the tables without a result since the last one with a result.
    failures: u32,
    /// Time at which the follower has waited long enough for memory; `None`: it does not wait.
    memory_until: Option<Instant>,
}

/// Events for the client, and the follower, unless they are the last ones.
type Step = (Vec<Bytes>, Option<Follower>);

impl Follower {
    pub(super) fn new(
        ledger: TenantLedger,
        feed: FeedHandle,
        selection: Selection,
        progress: Progress,
        after: Position,
    ) -> Self {
        let end = feed.log().end();
        // The position is the first event: a client that loses the connection soon continues there.
        let (sent, progress_at) = (None, Instant::now());
        Self {
            ledger,
            feed,
            end,
            selection,
            progress,
            after,
            sent,
            progress_at,
            failures: 0,
            memory_until: None,
        }
    }

    /// Returns the body of the response: events and comments, until the stream or the service ends.
    pub(super) fn into_body(self) -> Body {
        let closing = self.ledger.closing();
        let stopped = closing.clone();
        let events = self.events().map(Some).chain(stream::once(ready(None)));
        let events = stream::select(events, keep_alive().map(Some));
        let events = events.take_while(|event| ready(event.is_some())).filter_map(ready);
        let last = async move { stopped.is_cancelled().then(|| end("the service stops")) };
        let last = stream::once(last).filter_map(ready);
        let events = events.take_until(closing.cancelled_owned()).chain(last);
        Body::from_stream(events.map(Ok::<_, Infallible>))
    }

    fn events(self) -> impl Stream<Item = Bytes> + Send + 'static {
        let steps = stream::unfold(Some(self), |follower| async move { Some(follower?.step().await) });
        steps.flat_map(stream::iter)
    }

    /// Returns the next events. The client has taken all events before.
    async fn step(mut self) -> Step {
        // The client may have lost the right to read since it began.
        let filter = &self.selection.filter;
        let may_read =
            self.ledger.tenancy().check_reads(filter.environment.as_ref(), filter.service.as_ref());
        if may_read.is_err() {
            return close_with(EndReason::Forbidden);
        }
        if self.feed.log().is_replaced() {
            return close_with(EndReason::Replaced);
        }
        if Instant::now() >= self.progress_at {
            let events = self.send_progress().into_iter().collect();
            return (events, Some(self));
        }
        self.end.mark_unchanged();
        match self.feed.log().read(self.after, &self.selection) {
            Some(batch) if batch.entries.is_empty() => self.wait(batch.up_to).await,
            Some(batch) => self.take(batch).await,
            None => self.catch_up().await,
        }
    }

    /// Waits until the log has more entries.
    async fn wait(mut self, up_to: Position) -> Step {
        self.after = up_to;
        let Self { feed, end, progress_at, .. } = &mut self;
        let log = feed.log();
        log.ask(up_to);
        let changed = async {
            tokio::select! {
                // The sender is part of the feed, which the handle keeps.
                _ = end.changed() => {}
                () = log.replaced() => {}
            }
        };
        // A timeout is no error: the next step sends the position.
        let _ = timeout_at(*progress_at, changed).await;
        (Vec::new(), Some(self))
    }

    /// Sends entries of the log.
    async fn take(self, batch: Batch) -> Step {
        let events: Vec<Bytes> =
            batch.entries.iter().map(|entry| entry.event(self.selection.format)).collect();
        let shown = Shown::at(batch.entries.iter().map(|entry| entry.position()));
        let reserved = self.reserve(events.iter().map(Bytes::len).sum()).await;
        match reserved {
            Ok(share) => self.send(events, shown, batch.up_to, share),
            Err(_) => close_with(EndReason::Memory),
        }
    }

    /// Reads a page of the tables. A wait for a connection, for memory or for the comparison of the history ends when the
    /// client has to receive its position, and its rights have to be checked.
    async fn catch_up(mut self) -> Step {
        let feeds = Arc::clone(self.feed.feeds());
        let Ok(permit) = timeout_at(self.progress_at, feeds.catch_up_permit()).await else {
            return (Vec::new(), Some(self));
        };
        // The memory before the page, and none of both while waiting for the other: a follower that waits for memory must
        // not keep others from reading.
        let mut share = self.ledger.answer_share();
        if share.resize(CATCH_UP_BYTES).is_err() {
            drop(permit);
            return self.wait_for_memory().await;
        }
        self.memory_until = None;
        let projections = &self.ledger.projections;
        let page = read_page(projections, &self.selection.filter, self.after, CATCH_UP_PAGE).await;
        drop(permit);
        let history_epoch = self.ledger.projections.history_epoch();
        let page = match page {
            Ok(page) if page.up_to > self.after => page,
            // The tables lost their last entries in a crash, and the projector is about to apply them again; or they
            // cannot be read.
            _ => return self.retry().await,
        };
        let is_same = timeout_at(self.progress_at, self.feed.log().is_same_history(history_epoch)).await;
        match is_same {
            Ok(true) => self.send_page(page, share),
            Ok(false) => close_with(EndReason::Replaced),
            Err(_) => (Vec::new(), Some(self)),
        }
    }

    /// Waits before the tables are read again, or ends the stream after too many failures in a row.
    async fn retry(mut self) -> Step {
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            return close_with(EndReason::Unreadable);
        }
        sleep(RETRY_DELAY).await;
        (Vec::new(), Some(self))
    }

    /// Waits until other clients may have taken their answers, or ends the stream.
    async fn wait_for_memory(mut self) -> Step {
        let now = Instant::now();
        if now >= *self.memory_until.get_or_insert(now + MEMORY_TIMEOUT) {
            return close_with(EndReason::Memory);
        }
        sleep(RETRY_DELAY).await;
        (Vec::new(), Some(self))
    }

    fn send_page(mut self, page: Page, mut share: Share) -> Step {
        self.failures = 0;
        let Page { rows, up_to, is_full, .. } = page;
        rows.last().into_iter().for_each(|last| self.feed.log().mark(last.mark()));
        let wanted: Vec<_> = rows.into_iter().filter(|row| self.selection.includes_row(row)).collect();
        let shown = Shown::at(wanted.iter().map(|row| row.position));
        let events: Vec<Bytes> =
            wanted.iter().map(|row| server_sent_event(row, self.selection.format)).collect();
        drop(wanted);
        let bytes: usize = events.iter().map(Bytes::len).sum();
        if share.resize(bytes).is_err() {
            return close_with(EndReason::Memory);
        }
        let share = (bytes > FREE_BYTES).then(|| Arc::new(share));
        let (mut events, mut follower) = self.send(events, shown, up_to, share);
        if !is_full {
            // A client that wants few entries does not read the same part of the tables again after a reconnection.
            events.extend(follower.as_mut().and_then(Self::send_progress));
        }
        (events, follower)
    }

    /// Sends the events of the entries up to a position, with the memory that is reserved for them.
    fn send(mut self, events: Vec<Bytes>, shown: Shown, up_to: Position, share: Option<Arc<Share>>) -> Step {
        self.ledger.tenancy().stats().add_entries(shown);
        self.after = up_to;
        if let Some(last) = shown.last() {
            self.sent = Some(last);
            self.progress_at = Instant::now() + PROGRESS_INTERVAL;
        }
        let Some(share) = share else { return (events, Some(self)) };
        let events = events.into_iter().map(|event| CountedBytes::attach(event, Arc::clone(&share)));
        (events.collect(), Some(self))
    }

    /// Reserves memory for events until the client has taken them. `None`: they are few enough not to be counted.
    async fn reserve(&self, bytes: usize) -> Result<Option<Arc<Share>>, Exhausted> {
        if bytes <= FREE_BYTES {
            return Ok(None);
        }
        let deadline = Instant::now() + MEMORY_TIMEOUT;
        let mut share = self.ledger.answer_share();
        loop {
            match share.resize(bytes) {
                Ok(()) => return Ok(Some(Arc::new(share))),
                Err(exhausted) if Instant::now() >= deadline => return Err(exhausted),
                Err(_) => sleep(RETRY_DELAY).await,
            }
        }
    }

    /// Returns the position up to which the client has all entries, unless it has that.
    fn send_progress(&mut self) -> Option<Bytes> {
        self.progress_at = Instant::now() + PROGRESS_INTERVAL;
        let is_new = self.sent != Some(self.after);
        self.sent = Some(self.after);
        is_new.then(|| progress(self.progress, self.after))
    }
}

/// Returns comments, one for each interval.
fn keep_alive() -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold((), |()| async {
        sleep(KEEP_ALIVE_INTERVAL).await;
        Some((KEEP_ALIVE, ()))
    })
}

/// Returns the position up to which a client has all entries.
fn progress(progress: Progress, position: Position) -> Bytes {
    match progress {
        Progress::Event => frame(Some(position), "position", &format!("{{\"position\":{position}}}")),
        Progress::Id => format!("id: {position}\n\n").into(),
    }
}

/// Ends a stream, and counts the reason.
fn close_with(reason: EndReason) -> Step {
    let (label, detail) = reason.texts();
    counter!("ledger_http_streams_closed_total", "reason" => label).increment(1);
    if reason == EndReason::Memory {
        warn!("closed an event stream: unread responses take too much memory");
    }
    (vec![end(detail)], None)
}

/// Returns the last event of a stream that the service ends.
fn end(reason: &str) -> Bytes {
    let data = serde_json::json!({ "detail": format!("{reason}; reconnect with Last-Event-ID") });
    frame(None, "end", &data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_says_why_and_leaves_the_last_id() {
        let event = end("the service stops");

        let text = String::from_utf8_lossy(&event);
        assert_eq!(
            text,
            "event: end\ndata: {\"detail\":\"the service stops; reconnect with Last-Event-ID\"}\n\n"
        );
    }

    #[test]
    fn the_position_is_an_event_or_an_id_alone() {
        let text = |form| String::from_utf8_lossy(&progress(form, Position::new(7))).into_owned();

        assert_eq!(text(Progress::Event), "id: 7\nevent: position\ndata: {\"position\":7}\n\n");
        assert_eq!(text(Progress::Id), "id: 7\n\n");
    }
}
