//! Distributes the entries of a tenant to its followers: one task reads them for all.
//!
//! The task reads the projections after this process has projected entries, and now and then otherwise, since other
//! processes project too. It keeps the latest entries in a log, from which each follower takes those that it wants, at
//! its own pace. The fastest follower determines when the task reads on. A follower for which the log is too short
//! reads the tables.
//!
//! A feed belongs to one history. When another generation becomes active, or the journal diverges, nothing that was read
//! is sent before the feed has found its last entry again; if it does not, its streams end.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ledger_domain::{Position, Principal, ShortText, TenantName};
use ledger_projections::{EventFilter, EventRow, HistoryMark, Projections};
use metrics::{counter, gauge};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::feed_entry::{FeedEntry, Selection};
use crate::problem::{Kind, Problem};

/// Size of a page for all followers.
const FEED_PAGE: PageSize = PageSize { entries: 256, bytes: 512 << 10 };

/// Bounds of the log of a tenant. An entry has up to 64 KiB; serialized, it takes about as much again in each format
/// that its followers want, so that the log of a tenant takes less than 8 MiB.
const LOG_ENTRIES: usize = 1024;
const LOG_BYTES: usize = 2 << 20;

/// Bounds of what a follower takes from the log at a time, besides the entry that reaches them.
const BATCH_ENTRIES: usize = 64;
const BATCH_BYTES: usize = 8 << 10;

/// Distance of the fastest follower from the end of the log beyond which the log starts again at its position.
const MAX_SKIP: u64 = 4 * LOG_ENTRIES as u64;

/// Followers of all tenants that read the tables at a time: the others wait, so that other queries have connections.
const MAX_CATCH_UPS: usize = 4;

/// Interval of reads while this process projects the ledger and has projected nothing.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of reads while another process projects the ledger, and after a failure.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Interval of reads until the projections that are read have what this process projected: a replica is behind.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(20);
/// Number of those reads after which the projections count as not being caught up soon.
const MAX_CATCH_UP_READS: u32 = 100;
/// Shortest time between two reads, except while pages are full: entries that are projected meanwhile share a read.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Issuer and subject of a principal.
type PrincipalKey = (ShortText, ShortText);

/// The feeds of all tenants.
#[derive(Debug)]
pub(crate) struct EntryFeeds {
    max_followers: usize,
    max_of_principal: usize,
    followers: AtomicUsize,
    of_principals: Mutex<HashMap<PrincipalKey, usize>>,
    catch_ups: Semaphore,
    by_tenant: Mutex<BTreeMap<TenantName, Weak<Feed>>>,
}

/// The feed of one tenant.
#[derive(Debug)]
struct Feed {
    log: Arc<FeedLog>,
    _task: AbortOnDropHandle<()>,
}

/// Place of a follower, counted until it is dropped.
#[derive(Debug)]
struct Place {
    feeds: Arc<EntryFeeds>,
    principal: Option<PrincipalKey>,
}

/// A feed, for one follower.
#[derive(Debug)]
pub(crate) struct FeedHandle {
    place: Place,
    feed: Arc<Feed>,
}

impl EntryFeeds {
    /// Creates the feeds, with the maximum number of followers of all principals, and of each.
    pub(crate) fn new(max_followers: usize, max_of_principal: usize) -> Arc<Self> {
        Arc::new(Self {
            max_followers,
            max_of_principal,
            followers: AtomicUsize::new(0),
            of_principals: Mutex::default(),
            catch_ups: Semaphore::new(MAX_CATCH_UPS),
            by_tenant: Mutex::default(),
        })
    }

    /// Adds a follower. The first one of a tenant starts its feed. Without authentication, there is no principal.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        projections: &Projections,
        principal: Option<&Principal>,
    ) -> Result<FeedHandle, Problem> {
        let place = self.admit(principal)?;
        let mut by_tenant = self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        let running = by_tenant.get(projections.tenant()).and_then(Weak::upgrade);
        let feed = running.filter(|feed| !feed.log.is_replaced()).unwrap_or_else(|| {
            let feed = Arc::new(Feed::start(projections.clone()));
            by_tenant.insert(projections.tenant().clone(), Arc::downgrade(&feed));
            feed
        });
        Ok(FeedHandle { place, feed })
    }

    fn admit(self: &Arc<Self>, principal: Option<&Principal>) -> Result<Place, Problem> {
        let refuse = |bound: &'static str, detail: String| {
            counter!("ledger_http_refused_total", "bound" => bound).increment(1);
            Problem::new(Kind::Busy, detail)
        };
        let principal = principal.map(|principal| (principal.issuer.clone(), principal.subject.clone()));
        if let Some(key) = &principal {
            let mut of_principals = self.of_principals();
            let count = of_principals.get(key).copied().unwrap_or(0);
            if count >= self.max_of_principal {
                let detail = format!("this principal follows the ledger {count} times; close a stream first");
                return Err(refuse("followers_of_principal", detail));
            }
            of_principals.insert(key.clone(), count + 1);
        }
        let followers = self.followers.fetch_add(1, Ordering::AcqRel);
        let place = Place { feeds: Arc::clone(self), principal };
        if followers >= self.max_followers {
            return Err(refuse("followers", "too many clients follow the ledger; retry later".to_owned()));
        }
        gauge!("ledger_http_followers").set((followers + 1) as f64);
        Ok(place)
    }

    fn of_principals(&self) -> MutexGuard<'_, HashMap<PrincipalKey, usize>> {
        self.of_principals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a follower may read the tables. `None`: never, since nothing closes the semaphore.
    pub(crate) async fn catch_up_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.catch_ups.acquire().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let followers = self.feeds.followers.fetch_sub(1, Ordering::AcqRel);
        gauge!("ledger_http_followers").set(followers.saturating_sub(1) as f64);
        let Some(key) = self.principal.take() else { return };
        let mut of_principals = self.feeds.of_principals();
        if let Entry::Occupied(mut count) = of_principals.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl FeedHandle {
    pub(crate) const fn feeds(&self) -> &Arc<EntryFeeds> {
        &self.place.feeds
    }

    pub(crate) fn log(&self) -> &FeedLog {
        &self.feed.log
    }
}

impl Feed {
    fn start(projections: Projections) -> Self {
        let log = Arc::new(FeedLog::default());
        let of_task = Arc::clone(&log);
        let task = async move {
            tokio::select! {
                () = read(&projections, &of_task) => {}
                () = watch_history(&projections, &of_task) => {}
            }
        };
        Self { log, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }
}

/// The latest entries of a tenant.
#[derive(Debug, Default)]
pub(crate) struct FeedLog {
    recent: Mutex<Recent>,
    /// Position up to which the log has all entries.
    end: watch::Sender<Position>,
    /// Position up to which the fastest follower has all entries that it wants.
    wanted: watch::Sender<Position>,
    history: watch::Sender<History>,
}

/// Relation of the projections to the history of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum History {
    /// The feed starts.
    #[default]
    Unknown,
    /// It is the same in this [epoch](Projections::history_epoch), and in all before.
    Same(u64),
    /// It is another one.
    Replaced,
}

/// Entries of the log: all of the history after `start`, up to and including `end`.
#[derive(Debug, Default)]
struct Recent {
    start: Position,
    end: Position,
    entries: VecDeque<Arc<FeedEntry>>,
    bytes: usize,
    /// Last entry that was read for any follower.
    mark: Option<HistoryMark>,
}

/// Entries that a follower takes from the log.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Entries in order of position.
    pub(crate) entries: Vec<Arc<FeedEntry>>,
    /// Position up to which the batch has all entries that the follower wants.
    pub(crate) up_to: Position,
}

impl FeedLog {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the end of the log, and its changes.
    pub(crate) fn end(&self) -> watch::Receiver<Position> {
        self.end.subscribe()
    }

    /// Asks for the entries after a position. Until a follower has asked for those after the end of the log, the log
    /// does not continue.
    pub(crate) fn ask(&self, after: Position) {
        self.wanted.send_if_modified(|wanted| {
            let is_more = after > *wanted;
            *wanted = after.max(*wanted);
            is_more
        });
    }

    /// Returns the next entries that a follower wants after a position; `None` if the log does not reach back to it.
    pub(crate) fn read(&self, after: Position, selection: &Selection) -> Option<Batch> {
        self.recent().read(after, selection)
    }

    /// Marks the history by an entry of it that was read.
    pub(crate) fn mark(&self, mark: HistoryMark) {
        let mut recent = self.recent();
        recent.mark = recent.mark.filter(|last| last.position >= mark.position).or(Some(mark));
    }

    /// Returns true if the feed belongs to another history than the projections.
    pub(crate) fn is_replaced(&self) -> bool {
        *self.history.borrow() == History::Replaced
    }

    /// Waits until the feed belongs to another history than the projections.
    pub(crate) async fn replaced(&self) {
        let mut history = self.history.subscribe();
        // The log has the sender, so that waiting cannot fail.
        let _ = history.wait_for(|history| *history == History::Replaced).await;
    }

    /// Waits until it is known if the projections have the history of the feed, for what was read from them before
    /// `history_epoch` was. Returns false if they have another one.
    pub(crate) async fn is_same_history(&self, history_epoch: u64) -> bool {
        let mut history = self.history.subscribe();
        let is_known = |history: &History| match history {
            History::Unknown => false,
            History::Same(confirmed) => *confirmed >= history_epoch,
            History::Replaced => true,
        };
        history.wait_for(is_known).await.is_ok_and(|history| *history != History::Replaced)
    }

    /// Starts the log again at a position, without entries.
    fn restart(&self, at: Position) {
        let mut recent = self.recent();
        *recent = Recent { start: at, end: at, mark: recent.mark, ..Recent::default() };
        drop(recent);
        self.end.send_replace(at);
    }

    /// Adds the entries up to a position.
    fn append(&self, entries: Vec<FeedEntry>, up_to: Position) {
        let mut recent = self.recent();
        let has_more = recent.append(entries, up_to);
        let end = recent.end;
        drop(recent);
        if has_more {
            self.end.send_replace(end);
        }
    }
}

impl Recent {
    fn read(&self, after: Position, selection: &Selection) -> Option<Batch> {
        if after < self.start {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.position() <= after);
        let mut batch = Batch { entries: Vec::new(), up_to: after };
        let mut bytes = 0;
        for entry in self.entries.range(first..) {
            if batch.entries.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                return Some(batch);
            }
            batch.up_to = entry.position();
            if selection.includes(entry) {
                bytes += entry.size();
                batch.entries.push(Arc::clone(entry));
            }
        }
        batch.up_to = after.max(self.end);
        Some(batch)
    }

    /// Adds entries, and drops the earliest ones beyond the bounds. Returns true if the end has moved.
    fn append(&mut self, entries: Vec<FeedEntry>, up_to: Position) -> bool {
        for entry in entries {
            self.bytes += entry.size();
            self.entries.push_back(Arc::new(entry));
        }
        while (self.entries.len() > LOG_ENTRIES || self.bytes > LOG_BYTES)
            && let Some(first) = self.entries.pop_front()
        {
            self.start = first.position();
            self.bytes -= first.size();
        }
        let has_moved = up_to > self.end;
        self.end = self.end.max(up_to);
        has_moved
    }
}

/// Marks the history, and compares it whenever another generation becomes active or the journal diverges. Returns when the
/// history is another one.
async fn watch_history(projections: &Projections, log: &FeedLog) {
    // A feed that starts while the journal diverges has the history of the projections until they are switched.
    let was_diverged = projections.divergence().is_some();
    let mut history_epoch = loop {
        let history_epoch = projections.history_epoch();
        match projections.history_mark().await {
            Ok(mark) if projections.history_epoch() == history_epoch => {
                mark.into_iter().for_each(|mark| log.mark(mark));
                break history_epoch;
            }
            Ok(_) => {}
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    loop {
        log.history.send_replace(History::Same(history_epoch));
        projections.wait_for_history_change(history_epoch).await;
        history_epoch = projections.history_epoch();
        let diverges = !was_diverged && projections.divergence().is_some();
        if diverges || !has_mark(projections, log).await {
            log.history.send_replace(History::Replaced);
            return;
        }
    }
}

/// Returns true if the projections have the last entry that was read from them.
async fn has_mark(projections: &Projections, log: &FeedLog) -> bool {
    let mark = log.recent().mark;
    let Some(mark) = mark else { return true };
    loop {
        match projections.has_mark(mark).await {
            Ok(has_mark) => return has_mark,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Reads the entries for the followers, from the present position of the projections on. Returns when the history is
/// another one.
async fn read(projections: &Projections, log: &FeedLog) {
    let start = loop {
        match projections.checkpoint().await {
            Ok(checkpoint) => break checkpoint.position,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    log.restart(start);
    let mut wanted = log.wanted.subscribe();
    let (mut end, mut projected) = (start, start);
    let (mut has_failed, mut behind) = (false, 0_u32);
    loop {
        // The log has the sender, so that waiting cannot fail.
        let fastest = wanted.wait_for(|wanted| *wanted >= end).await.map_or(end, |wanted| *wanted);
        // The fastest follower has read the tables beyond the end of the log. Reading all of that again would serve no
        // other follower.
        let skip = fastest.min(projected);
        if skip.get() > end.get().saturating_add(MAX_SKIP) {
            end = skip;
            log.restart(end);
        }
        let local = projections.local_position();
        let page = match read_page(projections, &EventFilter::default(), end, FEED_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                if !has_failed {
                    let tenant = projections.tenant();
                    warn!(%error, %tenant, "event streams cannot read the projections; retrying");
                }
                has_failed = true;
                sleep(POLL_INTERVAL).await;
                continue;
            }
        };
        has_failed = false;
        if !log.is_same_history(projections.history_epoch()).await {
            return;
        }
        page.rows.last().into_iter().for_each(|last| log.mark(last.mark()));
        (end, projected) = (page.up_to, page.projected);
        let (is_full, is_empty) = (page.is_full, page.rows.is_empty());
        log.append(page.rows.into_iter().map(FeedEntry::new).collect(), end);
        if is_full {
            continue;
        }
        if !is_empty {
            sleep(MIN_INTERVAL).await;
        }
        behind = if end < local { behind.saturating_add(1) } else { 0 };
        let pause = match behind {
            1..=MAX_CATCH_UP_READS => CATCH_UP_INTERVAL,
            _ if projections.is_following() => IDLE_INTERVAL,
            _ => POLL_INTERVAL,
        };
        projections.wait_for_local_change(local, pause).await;
    }
}

/// Bounds of a page: the entry that reaches one of them is the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    pub(crate) entries: u32,
    pub(crate) bytes: usize,
}

/// Entries after a position that meet a filter.
pub(crate) struct Page {
    /// Entries in order of position.
    pub(crate) rows: Vec<EventRow>,
    /// Position up to which the page has all entries.
    pub(crate) up_to: Position,
    /// Position of the projections.
    projected: Position,
    /// There may be entries after the page.
    pub(crate) is_full: bool,
}

/// Reads the next entries after a position that meet a filter.
pub(crate) async fn read_page(
    projections: &Projections,
    filter: &EventFilter,
    after: Position,
    size: PageSize,
) -> Result<Page, ledger_projections::Error> {
    let (projected, rows) = projections.events_within(filter, after, size.entries, size.bytes).await?;
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    let is_full = rows.len() >= size.entries as usize || bytes >= size.bytes;
    let last = rows.last().map_or(after, |last| last.position);
    // After a crash, the tables may be behind the position, until the projector has applied the last entries again.
    let up_to = if is_full { last } else { last.max(projected) };
    Ok(Page { rows, up_to, projected, is_full })
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use crate::feed_entry::tests::row;

    fn any() -> Selection {
        Selection::default()
    }

    fn entries(positions: RangeInclusive<u64>) -> Vec<FeedEntry> {
        let service = |position| if position % 2 == 0 { "even" } else { "odd" };
        positions.map(|position| FeedEntry::new(row(position, service(position)))).collect()
    }

    fn position(number: u64) -> Position {
        Position::new(number)
    }

    /// Returns a log that starts at 10, with the entries from 11 to `last`.
    fn log(last: u64) -> FeedLog {
        let log = FeedLog::default();
        log.restart(position(10));
        log.append(entries(11..=last), position(last));
        log
    }

    fn positions(batch: &Batch) -> Vec<u64> {
        batch.entries.iter().map(|entry| entry.position().get()).collect()
    }

    #[test]
    fn a_follower_takes_the_entries_after_its_position() {
        let log = log(14);

        let batch = log.read(position(12), &any()).expect("a batch");

        assert_eq!((positions(&batch), batch.up_to), (vec![13, 14], position(14)));
        assert!(log.read(position(9), &any()).is_none(), "the tables have those");
        let ahead = log.read(position(20), &any()).expect("a batch");
        assert_eq!((positions(&ahead), ahead.up_to), (vec![], position(20)));
    }

    #[test]
    fn the_position_of_a_follower_passes_entries_that_it_does_not_want_and_gaps() {
        let log = log(14);
        log.append(Vec::new(), position(17));
        let service = ledger_domain::ServiceName::parse("odd").ok();
        let odd = Selection { filter: EventFilter { service, ..EventFilter::default() }, ..any() };

        let batch = log.read(position(10), &odd).expect("a batch");

        assert_eq!((positions(&batch), batch.up_to), (vec![11, 13], position(17)));
    }

    #[test]
    fn a_follower_takes_a_bounded_batch_and_continues_after_it() {
        let log = log(200);
        let (mut after, mut received) = (position(10), Vec::new());

        while after < position(200) {
            let batch = log.read(after, &any()).expect("a batch");
            assert!(batch.entries.len() <= BATCH_ENTRIES);
            let bytes: usize = batch.entries.iter().map(|entry| entry.size()).sum();
            assert!(bytes < BATCH_BYTES + 1_000, "{bytes}");
            received.extend(positions(&batch));
            after = batch.up_to;
        }

        assert_eq!(received, (11..=200).collect::<Vec<_>>());
    }

    #[test]
    fn the_log_is_bounded_and_does_not_serve_a_follower_behind_it() {
        let log = log(10 + LOG_ENTRIES as u64);
        assert!(log.read(position(10), &any()).is_some());

        let last = 20 + LOG_ENTRIES as u64;
        log.append(entries(last - 9..=last), position(last));

        assert!(log.read(position(19), &any()).is_none());
        let batch = log.read(position(20), &any()).expect("a batch");
        assert_eq!(positions(&batch).first(), Some(&21));
        let recent = log.recent();
        assert_eq!((recent.entries.len(), recent.end), (LOG_ENTRIES, position(last)));
        assert_eq!(recent.bytes, recent.entries.iter().map(|entry| entry.size()).sum::<usize>());
    }

    fn mark(number: u64) -> HistoryMark {
        HistoryMark { position: position(number), leaf_hash: row(number, "odd").leaf_hash }
    }

    #[test]
    fn the_latest_entry_that_was_read_marks_the_history() {
        let log = log(14);
        assert_eq!(log.recent().mark, None);

        log.mark(mark(12));
        log.mark(mark(11));
        log.restart(position(30));

        assert_eq!(log.recent().mark, Some(mark(12)));
    }

    #[tokio::test]
    async fn nothing_is_known_of_a_switch_until_the_history_is_compared() {
        let log = Arc::new(FeedLog::default());
        log.history.send_replace(History::Same(1));
        assert!(log.is_same_history(0).await && log.is_same_history(1).await);
        let of_task = Arc::clone(&log);
        let waiting = tokio::spawn(async move { of_task.is_same_history(2).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && !log.is_replaced());

        log.history.send_replace(History::Replaced);

        assert!(!waiting.await.expect("an answer"), "what was read is not sent");
        log.replaced().await;
        assert!(log.is_replaced());
    }

    fn principal(subject: &str) -> Principal {
        let text = |text| ShortText::parse(text).expect("a text");
        Principal {
            kind: ledger_domain::PrincipalKind::Workload,
            issuer: text("issuer"),
            subject: text(subject),
            name: text("name"),
            claims: BTreeMap::new(),
        }
    }

    #[test]
    fn one_principal_does_not_take_the_places_of_all() {
        let feeds = EntryFeeds::new(3, 2);
        let (one, other) = (principal("one"), principal("other"));
        let (first, _second) = (feeds.admit(Some(&one)), feeds.admit(Some(&one)).expect("a place"));

        let refused = feeds.admit(Some(&one)).expect_err("a problem").into_body();
        assert_eq!(refused.status, 503);
        assert!(feeds.admit(Some(&other)).is_ok());
        drop(first);
        assert!(feeds.admit(Some(&one)).is_ok());
        assert_eq!(feeds.of_principals().len(), 1, "the other has none any more");
    }

    #[test]
    fn a_refused_follower_takes_no_place() {
        let feeds = EntryFeeds::new(1, 1);
        let (one, other) = (principal("one"), principal("other"));
        let first = feeds.admit(Some(&one)).expect("a place");

        assert!(feeds.admit(Some(&other)).is_err() && feeds.admit(None).is_err());
        drop(first);

        assert!(feeds.admit(None).is_ok());
        assert!(feeds.admit(Some(&other)).is_ok());
    }

    #[tokio::test]
    async fn the_end_of_the_log_notifies_followers_and_the_fastest_follower_the_log() {
        let log = log(14);
        let (mut end, mut wanted) = (log.end(), log.wanted.subscribe());
        end.mark_unchanged();

        log.ask(position(14));
        log.ask(position(12));
        log.append(entries(15..=15), position(15));

        end.changed().await.expect("a change");
        assert_eq!((*end.borrow(), *wanted.borrow_and_update()), (position(15), position(14)));
    }
}
