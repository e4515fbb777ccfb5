//! The pipeline from journal to tables: read, decode, apply and write, all concurrently.
//!
//! Batches grow under load: all records that are ready, up to a limit, form one transaction of rows, tiles and
//! position, and a loaded projector hands over one batch per interval. After any failure the state in memory is discarded and loaded again from the tables, which are the only
//! source of truth.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use ledger_codec::cloudevents::StoredEntry;
use ledger_domain::{IdentityKey, Position, error_chain};
use ledger_journal::{ReadError, Record};
use metrics::{counter, gauge, histogram};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::identities::IdentityFeed;
use crate::postgres::{Error, Projections};
use crate::projector::apply::{Batch, Decoded, ProjectionState, known_identities};
use crate::projector::checkpoint::{self, Checkpoint};
use crate::projector::status::{ProjectorStatus, StopReason};
use crate::recorded::RecordedEnvelopes;
use crate::tables::corrections::{self, Corrected};
use crate::tables::events::IDENTITY_INDEX;

/// Maximum number of records in a batch.
const BATCH_RECORDS: usize = 8_000;
/// Bytes of entries at which a batch is full.
const BATCH_BYTES: usize = 8 << 20;
/// Time between two batches of a loaded projector. Each batch costs a transaction, however few records it has: waiting
/// for more saves that, and delays an entry by at most this.
const BATCH_INTERVAL: Duration = Duration::from_millis(6);
/// Number of records in a batch that shows load: more than one client writes, or a client writes many at once. The
/// entries of a client that awaits each of its writes are never delayed.
const LOADED_BATCH_RECORDS: usize = 4;
/// Maximum number of records that are decoded as one group.
const GROUP_RECORDS: usize = 256;
/// Decoded groups that may be queued.
const GROUP_QUEUE_SLOTS: usize = 16;
/// Batches that may be queued while another is written.
const BATCH_QUEUE_SLOTS: usize = 1;
/// Interval at which an idle projector verifies the position in the tables.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of one database step: sqlx does not notice a host that vanishes.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Reason why projecting ended.
#[derive(Debug)]
pub(crate) enum ProjectionError {
    /// Permanent: a retry does not help.
    Stopped(StopReason),
    /// Possibly transient: the caller may retry.
    Failed(String),
    /// The history contains an identity of the batch: the retry has to check for duplicates.
    Duplicate,
    /// Another projector advanced the position first.
    Fenced(Position),
}

impl From<Error> for ProjectionError {
    fn from(error: Error) -> Self {
        if let Error::Database(sqlx::Error::Database(cause)) = &error
            && cause.is_unique_violation()
            && cause.constraint() == Some(IDENTITY_INDEX)
        {
            return Self::Duplicate;
        }
        Self::Failed(error_chain(&error))
    }
}

impl From<sqlx::Error> for ProjectionError {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<ReadError> for ProjectionError {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A generation of a tenant's projections that entries are applied to.
#[derive(Clone)]
pub(crate) struct GenerationHandle {
    pub(crate) projections: Projections,
    pub(crate) number: i32,
    /// The last position that this process wrote or loaded.
    pub(crate) written: watch::Sender<Position>,
    /// Time of the last write to its tables, or of the last check that found them unchanged.
    pub(crate) healthy_at: watch::Sender<Instant>,
    options: PgConnectOptions,
}

impl GenerationHandle {
    pub(crate) fn new(projections: &Projections, number: i32) -> Self {
        let schema = projections.schema(number);
        let options = projections.database().generation_options(&schema, "projector").options([
            // A crash of Postgres loses rows and position together, and the journal still has the entries: commits
            // need not wait for the disk.
            ("synchronous_commit", "off"),
            // A process that is paused within a batch holds the position's row, which blocks the next owner:
            // Postgres ends its session.
            ("idle_in_transaction_session_timeout", "5s"),
            // Queries run at the same time: limit each projector statement to one processor.
            ("max_parallel_workers_per_gather", "0"),
            ("max_parallel_maintenance_workers", "0"),
        ]);
        let (written, healthy_at) = (watch::Sender::new(Position::START), watch::Sender::new(Instant::now()));
        Self { projections: projections.clone(), number, written, healthy_at, options }
    }

    /// Connects to its tables.
    pub(crate) async fn connect(&self) -> Result<PgConnection, ProjectionError> {
        with_step_timeout(async { Ok(PgConnection::connect_with(&self.options).await?) }).await
    }

    /// Returns true if it is the active generation, or if no generation is active.
    fn is_active(&self) -> bool {
        self.projections.active_number().is_none_or(|number| number == self.number)
    }

    /// Publishes the projector's status, unless another generation is active.
    pub(crate) fn set_status(&self, status: ProjectorStatus) {
        if self.is_active() {
            self.projections.status.send_replace(Some(status));
        }
    }

    /// Publishes the projector's position, unless another generation is active.
    pub(crate) fn set_position(&self, to: Position) {
        if self.is_active() {
            gauge!("ledger_projections_position", "tenant" => self.projections.tenant.to_string())
                .set(to.get() as f64);
            self.projections.local_position.send_replace(to);
            self.projections.last_seen.send_replace(Some(to));
        }
    }

    /// Publishes that failed checks were applied, unless another generation is active.
    fn count_failed_checks(&self, applied: u64) {
        if applied > 0 && self.is_active() {
            self.projections.failed_checks.send_modify(|failed_checks| *failed_checks += applied);
        }
    }
}

/// Runs a database step with [`STEP_TIMEOUT`].
pub(crate) async fn with_step_timeout<T>(
    step: impl Future<Output = Result<T, ProjectionError>>,
) -> Result<T, ProjectionError> {
    with_timeout(STEP_TIMEOUT, step).await
}

/// Runs a database step with a timeout.
pub(crate) async fn with_timeout<T, E: From<ProjectionError>>(
    timeout: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let timed_out = |_| ProjectionError::Failed(format!("the database did not respond within {timeout:?}"));
    tokio::time::timeout(timeout, step).await.map_err(timed_out)?
}

/// Records to apply to a generation.
pub(crate) struct Source {
    /// The records after the position of the state.
    pub(crate) records: BoxStream<'static, Result<Record, ReadError>>,
    /// Creation time of the stream that the records belong to.
    pub(crate) stream_created: DateTime<Utc>,
    /// Receives the identities of the records; `None` if they are not those of the history that answers. With it, the
    /// envelopes that this process recorded are taken.
    pub(crate) identities: Option<IdentityFeed>,
}

/// State that the reader of the live generation shares with the write path of the process.
struct Shared {
    generation: GenerationHandle,
    identities: IdentityFeed,
}

impl Shared {
    fn recorded(&self) -> &RecordedEnvelopes {
        &self.generation.projections.recorded
    }

    /// Keeps the identities in use if the history's epoch has changed and the generation is active all the same: the history
    /// is the one before. A replica, or a divergence that has ended, has changed the epoch.
    fn adopt_history(&self) {
        let projections = &self.generation.projections;
        // Read the epoch first: if another generation becomes active after that, the identities are not used.
        let history_epoch = projections.history_epoch();
        if projections.active_number() == Some(self.generation.number) && projections.divergence().is_none() {
            self.identities.adopt(history_epoch);
        }
    }
}

/// Applies a source to a generation until the source ends and all batches are written. Returns the state at the last
/// position. With `check_duplicates`, looks up each batch's identities in the history first.
pub(crate) async fn run(
    generation: &GenerationHandle,
    connection: PgConnection,
    state: ProjectionState,
    source: Source,
    check_duplicates: bool,
    cancelled: &CancellationToken,
) -> Result<(ProjectionState, PgConnection), ProjectionError> {
    let (sender, mut groups) = mpsc::channel(GROUP_QUEUE_SLOTS);
    let shared = source.identities.map(|identities| Shared { generation: generation.clone(), identities });
    let _reader = AbortOnDropHandle::new(tokio::spawn(decode(source.records, shared, sender)));
    let mut pipeline =
        Pipeline::start(generation, connection, state, source.stream_created, check_duplicates);
    let end = loop {
        let (records, end) = pipeline.next_records(&mut groups, cancelled).await?;
        for records in split_at_corrections(records) {
            pipeline.apply(records).await?;
        }
        if let Some(end) = end {
            break end;
        }
    };
    let done = pipeline.finish().await?;
    match end {
        End::Failed(error) => Err(error),
        End::Source => Ok(done),
    }
}

/// Reason why no more records come.
enum End {
    /// The source ended.
    Source,
    Failed(ProjectionError),
}

/// State in memory, and the writer of its batches.
struct Pipeline<'g> {
    generation: &'g GenerationHandle,
    state: ProjectionState,
    stream_created: DateTime<Utc>,
    check_duplicates: bool,
    /// Queue of batches to write.
    batches: mpsc::Sender<Batch>,
    pace: Pace,
    writer: AbortOnDropHandle<Result<PgConnection, ProjectionError>>,
    /// Connection for look-ups in the history. It is opened when it is first needed.
    lookup_connection: Option<PgConnection>,
}

impl<'g> Pipeline<'g> {
    fn start(
        generation: &'g GenerationHandle,
        connection: PgConnection,
        state: ProjectionState,
        stream_created: DateTime<Utc>,
        check_duplicates: bool,
    ) -> Self {
        let (batches, queue) = mpsc::channel(BATCH_QUEUE_SLOTS);
        generation.written.send_replace(state.checkpoint.position);
        let writer = Writer { generation: generation.clone(), connection };
        let writer = AbortOnDropHandle::new(tokio::spawn(writer.run(queue, state.checkpoint.clone())));
        Self {
            generation,
            state,
            stream_created,
            check_duplicates,
            batches,
            pace: Pace::default(),
            writer,
            lookup_connection: None,
        }
    }

    /// Waits until another batch can be queued, and then for records. Returns all that are ready, under load those of
    /// the interval, and the end if no more come.
    async fn next_records(
        &mut self,
        groups: &mut mpsc::Receiver<Group>,
        cancelled: &CancellationToken,
    ) -> Result<(Vec<Decoded>, Option<End>), ProjectionError> {
        let stopped = || (Vec::new(), Some(End::Failed(ProjectionError::Stopped(StopReason::Cancelled))));
        tokio::select! {
            biased;
            () = cancelled.cancelled() => return Ok(stopped()),
            done = &mut self.writer => return Err(writer_failure(done)),
            slot = self.batches.reserve() => if slot.is_err() {
                return Err(writer_failure((&mut self.writer).await));
            },
        }
        let group = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Ok(stopped()),
            done = &mut self.writer => return Err(writer_failure(done)),
            group = groups.recv() => group,
        };
        let until = self.pace.next_batch_at();
        let (records, end) = gather(group, groups, until).await;
        self.pace.record_batch(records.len());
        Ok((records, end))
    }

    /// Applies records to the state, and queues the batch for the writer.
    async fn apply(&mut self, records: Vec<Decoded>) -> Result<(), ProjectionError> {
        let corrects = records.first().and_then(Decoded::corrects);
        let (mut known, mut corrected) = (HashMap::new(), None);
        if self.check_duplicates || corrects.is_some() {
            (known, corrected) = self.look_up(&records, corrects).await?;
        }
        let batch = self.state.apply(records, self.stream_created, &known, corrected);
        let batch = batch.map_err(|error| ProjectionError::Failed(error.to_string()))?;
        // Duplicates come in runs, as when a history is imported again: keep checking while they do.
        self.check_duplicates &= batch.stats.repeats > 0 || corrects.is_some();
        tokio::select! {
            biased;
            done = &mut self.writer => Err(writer_failure(done)),
            sent = self.batches.send(batch) => match sent {
                Ok(()) => Ok(()),
                Err(_) => Err(writer_failure((&mut self.writer).await)),
            },
        }
    }

    /// Looks up the identities of records in the history, and the event that is to be corrected.
    async fn look_up(
        &mut self,
        records: &[Decoded],
        corrects: Option<IdentityKey>,
    ) -> Result<(HashMap<IdentityKey, Position>, Option<Corrected>), ProjectionError> {
        // The history contains queued batches only after they are written.
        let mut written = self.generation.written.subscribe();
        let applied = self.state.checkpoint.position;
        tokio::select! {
            done = &mut self.writer => return Err(writer_failure(done)),
            _ = written.wait_for(|written| *written >= applied) => {}
        }
        let connection = match &mut self.lookup_connection {
            Some(connection) => connection,
            None => self.lookup_connection.insert(self.generation.connect().await?),
        };
        let look_up = async { Ok(known_identities(connection, records).await?) };
        let known = with_step_timeout(look_up).await?;
        let Some(key) = corrects else { return Ok((known, None)) };
        let find = async { Ok(corrections::find(connection, key).await?) };
        Ok((known, Some(with_step_timeout(find).await?)))
    }

    /// Waits until the queued batches are written. Returns the state and the writer's connection.
    async fn finish(self) -> Result<(ProjectionState, PgConnection), ProjectionError> {
        drop(self.batches);
        let done = self.writer.await;
        let connection = done.map_err(|_| ProjectionError::Failed("the writer panicked".into()))??;
        Ok((self.state, connection))
    }
}

/// Returns the failure of a writer that ended before the queue of batches was closed.
fn writer_failure(done: Result<Result<PgConnection, ProjectionError>, JoinError>) -> ProjectionError {
    match done {
        Ok(Ok(_)) => ProjectionError::Failed("the writer ended unexpectedly".into()),
        Ok(Err(error)) => error,
        Err(_) => ProjectionError::Failed("the writer panicked".into()),
    }
}

/// Splits records into batches. A correction is a batch of its own, since the corrected event has to be in the tables.
fn split_at_corrections(records: Vec<Decoded>) -> Vec<Vec<Decoded>> {
    let mut batches: Vec<Vec<Decoded>> = Vec::new();
    let mut is_open = false;
    for record in records {
        let corrects = record.corrects().is_some();
        match batches.last_mut().filter(|_| is_open && !corrects) {
            Some(batch) => batch.push(record),
            None => batches.push(vec![record]),
        }
        is_open = !corrects;
    }
    batches
}

type Group = Result<Vec<Decoded>, ProjectionError>;

/// Time and load of the last batch, which decide whether the next one waits for more records.
#[derive(Debug, Default)]
struct Pace {
    /// Time at which the last batch was handed over, if its size shows load.
    loaded_batch_at: Option<Instant>,
}

impl Pace {
    /// Returns the time until which the next batch waits for more records; `None` if it does not wait.
    fn next_batch_at(&self) -> Option<Instant> {
        self.loaded_batch_at.map(|at| at + BATCH_INTERVAL)
    }

    /// Records that a batch is handed over now.
    fn record_batch(&mut self, records: usize) {
        self.loaded_batch_at = (records >= LOADED_BATCH_RECORDS).then(Instant::now);
    }
}

/// Returns the records that are ready, and the end if no more come. Until a time, if any, waits for more records while
/// the batch is not full.
async fn gather(
    first: Option<Group>,
    groups: &mut mpsc::Receiver<Group>,
    until: Option<Instant>,
) -> (Vec<Decoded>, Option<End>) {
    let mut records = Vec::with_capacity(GROUP_RECORDS);
    let mut bytes = 0;
    let mut next = first;
    loop {
        match next {
            None => return (records, Some(End::Source)),
            Some(Err(error)) => return (records, Some(End::Failed(error))),
            Some(Ok(group)) => {
                bytes += group.iter().map(Decoded::byte_len).sum::<usize>();
                records.extend(group);
            }
        }
        if records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            return (records, None);
        }
        next = match (groups.try_recv(), until) {
            (Ok(group), _) => Some(group),
            (Err(_), Some(until)) if until > Instant::now() => match timeout_at(until, groups.recv()).await {
                Ok(group) => group,
                Err(_) => return (records, None),
            },
            (Err(_), _) => return (records, None),
        };
    }
}

/// Reads and decodes records ahead of the state, limited by the channel's slots.
async fn decode(
    records: BoxStream<'static, Result<Record, ReadError>>,
    shared: Option<Shared>,
    sender: mpsc::Sender<Group>,
) {
    let mut groups = records.ready_chunks(GROUP_RECORDS);
    while let Some(group) = groups.next().await {
        if let Some(shared) = &shared {
            shared.adopt_history();
        }
        let mut decoded = Vec::with_capacity(group.len());
        let mut failed = None;
        for record in group {
            let record = record.map_err(ProjectionError::from);
            match record.and_then(|record| decode_one(record, shared.as_ref().map(Shared::recorded))) {
                Ok(record) => {
                    if let Some(shared) = &shared {
                        shared.identities.add(record.position(), record.key());
                    }
                    decoded.push(record);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Records before an entry that cannot be decoded are still applied.
        if sender.send(Ok(decoded)).await.is_err() {
            return;
        }
        if let Some(error) = failed {
            // A closed channel means that the pipeline has already ended.
            let _ = sender.send(Err(error)).await;
            return;
        }
    }
}

/// Decodes a record. An entry that this process recorded was parsed when it arrived.
fn decode_one(record: Record, recorded: Option<&RecordedEnvelopes>) -> Result<Decoded, ProjectionError> {
    let entry = match record {
        Record::Gap(position) => return Ok(Decoded::Gap(position)),
        Record::Entry(entry) => entry,
    };
    let stored = match recorded.and_then(|recorded| recorded.take(entry.position, &entry.bytes)) {
        Some(envelope) => StoredEntry::Event(envelope),
        None => StoredEntry::parse(entry.bytes.clone()),
    };
    match stored {
        StoredEntry::Event(envelope) => {
            let (key, leaf) = (envelope.identity().key(), entry.leaf_hash());
            Ok(Decoded::Entry { entry, key, envelope, leaf })
        }
        StoredEntry::Foreign { lacks, reason } => {
            debug!(position = %entry.position, %lacks, %reason, "foreign entry");
            let leaf = entry.leaf_hash();
            Ok(Decoded::Foreign { entry, lacks, leaf })
        }
        StoredEntry::Newer(reason) => {
            let (position, reason) = (entry.position, reason.to_string());
            Err(ProjectionError::Stopped(StopReason::NewerEntry { position, reason }))
        }
    }
}

/// Writes batches, one transaction each.
struct Writer {
    generation: GenerationHandle,
    connection: PgConnection,
}

impl Writer {
    /// Writes batches until the queue is closed, then returns the connection.
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut checkpoint: Checkpoint,
    ) -> Result<PgConnection, ProjectionError> {
        loop {
            match tokio::time::timeout(IDLE_CHECK_INTERVAL, batches.recv()).await {
                Ok(Some(batch)) => checkpoint = self.write(batch, checkpoint.position).await?,
                Ok(None) => return Ok(self.connection),
                Err(_) => {
                    let verify = verify_position(&mut self.connection, checkpoint.position);
                    with_step_timeout(verify).await?;
                    self.generation.healthy_at.send_replace(Instant::now());
                }
            }
        }
    }

    async fn write(&mut self, batch: Batch, from: Position) -> Result<Checkpoint, ProjectionError> {
        let started = Instant::now();
        let (records, stats) = (batch.records as u64, batch.stats);
        let written = with_step_timeout(async { Ok(batch.write(&mut self.connection).await?) }).await?;
        let checkpoint = written.ok_or(ProjectionError::Fenced(from))?;
        let tenant = self.generation.projections.tenant.to_string();
        counter!("ledger_gaps_total", "tenant" => tenant.clone()).increment(stats.gaps);
        counter!("ledger_foreign_entries_total", "tenant" => tenant.clone()).increment(stats.foreign);
        counter!("ledger_repeated_entries_total", "tenant" => tenant.clone()).increment(stats.repeats);
        histogram!("ledger_projector_commit_seconds", "tenant" => tenant.clone()).record(started.elapsed());
        counter!("ledger_projector_entries_total", "tenant" => tenant).increment(records);
        self.generation.written.send_replace(checkpoint.position);
        self.generation.healthy_at.send_replace(Instant::now());
        self.generation.set_position(checkpoint.position);
        self.generation.count_failed_checks(stats.failed_checks);
        Ok(checkpoint)
    }
}

/// Verifies that the tables are at the position of the last write. A crash of Postgres may have lost the last batches,
/// and without new entries no write would detect that.
async fn verify_position(connection: &mut PgConnection, expected: Position) -> Result<(), ProjectionError> {
    let found = checkpoint::read(connection).await?.position;
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ProjectionError::Fenced(found)),
        std::cmp::Ordering::Less => {
            Err(ProjectionError::Failed(format!("the tables went back from {expected} to {found}")))
        }
    }
}

/// Closes a connection that is no longer needed.
pub(crate) async fn close(connection: PgConnection) {
    // After a failure the connection is gone as well.
    let _ = connection.close().await;
}

#[cfg(test)]
mod tests;
