//! Log of the reads of the history, for auditors: who read what, and how much.
//!
//! A page and a live stream are recorded off the request path, in batches: they are neither delayed nor refused while the
//! log cannot be stored. An export is recorded before the first byte of its answer, and refused if that is not possible.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::error_chain;
use ledger_projections::{Error, Projections, Purpose, ReadFilter, ReadRecord};
use metrics::counter;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::problem::{Kind, Problem};

/// Largest number of entries that an answer shows, or that a stream may begin before the end of the history, without
/// being an export: a page of the usual size.
pub(crate) const MAX_PAGE_ENTRIES: u64 = 100;

/// Maximum number of records that wait for the database. Most take less than 1 KiB, and none more than 10 KiB.
const MAX_PENDING: usize = 4_096;
/// Maximum number of records in a statement.
const BATCH: usize = 512;
/// Longest time for which a record waits while the database answers.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);
/// Time limit of a statement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for recording an export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Exports that are recorded at the same time, each over a connection.
const PARALLEL_EXPORTS: usize = 4;
/// Delay of the first search for records that are not kept any more: until then, the projections of a new ledger are built.
const FIRST_FORGET_DELAY: Duration = Duration::from_secs(60);
/// Interval between two searches.
const FORGET_INTERVAL: Duration = Duration::from_secs(3_600);
/// Maximum number of records that one statement removes.
const FORGET_BATCH: u32 = 10_000;

/// Settings of the log of reads.
#[derive(Debug, Clone, Copy)]
pub struct ReadLogSettings {
    /// Time for which a record is kept.
    pub keep_for: TimeDelta,
    /// Maximum number of records; the oldest beyond it are removed.
    pub max_records: u32,
    /// True if an export needs the verb `export` besides `read`.
    pub exports_need_grant: bool,
}

/// Database of the log.
#[async_trait]
trait ReadStore: Send + Sync {
    /// Records reads, or the end of reads that are recorded already.
    async fn record(&self, records: &[ReadRecord]) -> Result<(), Error>;
    /// Returns the latest reads that meet the conditions, latest first.
    async fn list(&self, filter: &ReadFilter, limit: u32) -> Result<Vec<ReadRecord>, Error>;
    /// Removes some of the records that began before a time, and some of the oldest beyond a number. Returns how many.
    async fn forget(&self, before: DateTime<Utc>, max_records: u32) -> Result<u64, Error>;
}

#[async_trait]
impl ReadStore for Projections {
    async fn record(&self, records: &[ReadRecord]) -> Result<(), Error> {
        self.record_reads(records).await
    }

    async fn list(&self, filter: &ReadFilter, limit: u32) -> Result<Vec<ReadRecord>, Error> {
        self.reads(filter, limit).await
    }

    async fn forget(&self, before: DateTime<Utc>, max_records: u32) -> Result<u64, Error> {
        let old = self.forget_old_reads(before, FORGET_BATCH).await?;
        Ok(old + self.forget_excess_reads(max_records, FORGET_BATCH).await?)
    }
}

/// Log of the reads of all tenants.
pub struct ReadLog {
    store: Box<dyn ReadStore>,
    settings: ReadLogSettings,
    clock: fn() -> DateTime<Utc>,
    /// Records that wait for the database, at most one for each read.
    pending: Mutex<BTreeMap<Uuid, ReadRecord>>,
    /// Notified when a batch waits.
    batch_waits: Notify,
    /// Permits of exports that are recorded at the same time.
    exports: Semaphore,
}

impl ReadLog {
    /// Creates a log in the database of these projections, which must be the primary. Connects to nothing.
    #[must_use]
    pub fn new(projections: &Projections, settings: ReadLogSettings, clock: fn() -> DateTime<Utc>) -> Self {
        Self::over(Box::new(projections.for_purpose(Purpose::Recording)), settings, clock)
    }

    fn over(store: Box<dyn ReadStore>, settings: ReadLogSettings, clock: fn() -> DateTime<Utc>) -> Self {
        let (pending, batch_waits) = (Mutex::default(), Notify::new());
        Self { store, settings, clock, pending, batch_waits, exports: Semaphore::new(PARALLEL_EXPORTS) }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<Uuid, ReadRecord>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Returns true if an export needs the verb `export` besides `read`.
    pub(crate) const fn exports_need_grant(&self) -> bool {
        self.settings.exports_need_grant
    }

    /// Adds a record that waits for the database. It replaces an earlier one of the same read. Beyond the bound, it is
    /// dropped and counted.
    pub(crate) fn add(&self, record: ReadRecord) {
        let mut pending = self.pending();
        if pending.len() >= MAX_PENDING && !pending.contains_key(&record.id) {
            drop(pending);
            counter!("ledger_reads_unrecorded_total").increment(1);
            return;
        }
        pending.insert(record.id, record);
        if pending.len() >= BATCH {
            self.batch_waits.notify_one();
        }
    }

    /// Stores the record of an export.
    ///
    /// # Errors
    /// The database does not confirm it: the export must not be answered.
    pub(crate) async fn store_export(&self, record: ReadRecord) -> Result<(), Problem> {
        let records = [record];
        let stored = timeout(EXPORT_TIMEOUT, async {
            let _permit = self.exports.acquire().await;
            self.store.record(&records).await
        });
        let cause = match stored.await {
            Ok(Ok(())) => {
                counter!("ledger_reads_recorded_total").increment(1);
                return Ok(());
            }
            Ok(Err(error)) => error_chain(&error),
            Err(_) => format!("timed out after {EXPORT_TIMEOUT:?}"),
        };
        warn!(cause, "an export cannot be recorded and is refused");
        counter!("ledger_exports_refused_total").increment(1);
        let detail = format!(
            "an export is answered only after it is recorded for auditors, which is not possible now; retry it later, \
             or read pages of at most {MAX_PAGE_ENTRIES} entries"
        );
        Err(Problem::new(Kind::ReadLogUnavailable, detail))
    }

    /// Returns the latest reads that meet the conditions, latest first. Those of the last moment may be missing.
    pub(crate) async fn list(&self, filter: &ReadFilter, limit: u32) -> Result<Vec<ReadRecord>, Error> {
        self.store.list(filter, limit).await
    }

    /// Stores the records that wait and removes those that are not kept any more, until `stop` is cancelled; then stores
    /// the last ones.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut forget_at = Instant::now() + FIRST_FORGET_DELAY;
        let mut is_failing = false;
        loop {
            let stops = tokio::select! {
                () = stop.cancelled() => true,
                () = self.batch_waits.notified(), if !is_failing => false,
                () = sleep(WRITE_INTERVAL) => false,
            };
            match self.write_pending().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        warn!(
                            cause = error_chain(&error),
                            "reads cannot be recorded; they wait, and exports are refused"
                        );
                    }
                    is_failing = true;
                }
            }
            if stops {
                self.drop_pending();
                return;
            }
            if !is_failing && Instant::now() >= forget_at {
                let is_done = self.forget().await;
                forget_at = Instant::now() + if is_done { FORGET_INTERVAL } else { Duration::ZERO };
            }
        }
    }

    /// Stores all records that wait. After a failure, the rest still waits.
    async fn write_pending(&self) -> Result<(), Error> {
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                return Ok(());
            }
            let timed_out = |_| Err(Error::NotReady("the database does not answer".to_owned()));
            let written = timeout(WRITE_TIMEOUT, self.store.record(&batch)).await.unwrap_or_else(timed_out);
            if let Err(error) = written {
                let mut pending = self.pending();
                for record in batch {
                    // A later record of the same read stays.
                    pending.entry(record.id).or_insert(record);
                }
                return Err(error);
            }
            counter!("ledger_reads_recorded_total").increment(batch.len() as u64);
        }
    }

    /// Takes the oldest records that wait.
    fn take_batch(&self) -> Vec<ReadRecord> {
        let mut pending = self.pending();
        let mut batch = Vec::with_capacity(pending.len().min(BATCH));
        while batch.len() < BATCH
            && let Some((_, record)) = pending.pop_first()
        {
            batch.push(record);
        }
        batch
    }

    /// Counts the records that cannot be stored before the process ends.
    fn drop_pending(&self) {
        let lost = std::mem::take(&mut *self.pending()).len();
        if lost > 0 {
            counter!("ledger_reads_unrecorded_total").increment(lost as u64);
            warn!(lost, "reads were not recorded before the process ended");
        }
    }

    /// Removes some records that are not kept any more. Returns true if no others are left, or if it failed.
    async fn forget(&self) -> bool {
        let before = self.now().checked_sub_signed(self.settings.keep_for).unwrap_or(DateTime::UNIX_EPOCH);
        let forgotten = timeout(WRITE_TIMEOUT, self.store.forget(before, self.settings.max_records));
        match forgotten.await {
            Ok(Ok(forgotten)) => forgotten == 0,
            Ok(Err(error)) => {
                warn!(cause = error_chain(&error), "old records of reads cannot be removed");
                true
            }
            Err(_) => {
                warn!("removing old records of reads timed out after {WRITE_TIMEOUT:?}");
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
