//! How entries come into the tables: read, decoded, folded and written, each while the others go on.
//!
//! Batches grow under load: whatever is ready, up to a limit, is one transaction of rows, tiles and position.
//! Whatever goes wrong, the memory is thrown away and read again from the tables, so that the tables are the
//! only truth.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::Position;
use ledger_journal::{ReadError, Record};
use ledger_tlog::leaf_hash;
use metrics::{counter, gauge, histogram};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Projections;
use crate::postgres::Error;
use crate::projector::apply::{Batch, Decoded, Fold, identities};
use crate::projector::checkpoint::{self, Checkpoint};
use crate::projector::{Status, Stopped};
use crate::tables::corrections;
use crate::tables::events::IDENTITY_INDEX;

/// A batch ends at this many records …
const BATCH_RECORDS: usize = 8_000;
/// … or at this many bytes of entries.
const BATCH_BYTES: usize = 8 << 20;
/// Records that are decoded together, and how many such groups may wait.
const GROUP_RECORDS: usize = 256;
const GROUPS_WAITING: usize = 16;
/// Folded batches that wait while one is written.
const BATCHES_WAITING: usize = 1;
/// How often an idle projector looks whether the tables still stand where it left them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A step with the database that takes longer has lost it: sqlx does not notice a host that vanishes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Why folding ended.
#[derive(Debug)]
pub(crate) enum ProjectionError {
    /// For good.
    Stopped(Stopped),
    /// It may be tried again.
    Failed(String),
    /// The history has an identity of the batch already: it has to be looked for.
    Repeated,
    /// The journal seems to lack what was folded.
    Doubtful(String),
    /// Another projector moved the position first.
    Fenced(Position),
}

impl From<Error> for ProjectionError {
    fn from(error: Error) -> Self {
        if let Error::Database(sqlx::Error::Database(refused)) = &error
            && refused.is_unique_violation()
            && refused.constraint() == Some(IDENTITY_INDEX)
        {
            return Self::Repeated;
        }
        Self::Failed(error.told())
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

/// A generation of a tenant's projections, as what is folded into.
#[derive(Clone)]
pub(crate) struct GenerationHandle {
    pub(crate) projections: Projections,
    pub(crate) number: i32,
    /// The last position that is written to it, as far as this process knows.
    pub(crate) written: watch::Sender<Position>,
    /// When its tables were last written to, or found as they were left.
    pub(crate) well: watch::Sender<Instant>,
    options: PgConnectOptions,
}

impl GenerationHandle {
    pub(crate) fn new(projections: &Projections, number: i32) -> Self {
        let options = projections.database().generation(&projections.schema(number)).options([
            // Rows and position are lost together in a crash of the database, and what is lost is read from the
            // journal again: no commit waits for the disk.
            ("synchronous_commit", "off"),
            // A process that is paused in the middle of a batch holds the position, and whoever takes its place
            // waits for that: then it is cut off.
            ("idle_in_transaction_session_timeout", "5s"),
            // Questions are answered meanwhile, and one of these is to take one processor.
            ("max_parallel_workers_per_gather", "0"),
            ("max_parallel_maintenance_workers", "0"),
        ]);
        let (written, well) = (watch::Sender::new(Position::START), watch::Sender::new(Instant::now()));
        Self { projections: projections.clone(), number, written, well, options }
    }

    /// A connection to its tables.
    pub(crate) async fn connect(&self) -> Result<PgConnection, ProjectionError> {
        patiently(async { Ok(PgConnection::connect_with(&self.options).await?) }).await
    }

    /// Whether questions are answered from it, or from nothing.
    fn is_active(&self) -> bool {
        self.projections.answers_from().is_none_or(|number| number == self.number)
    }

    /// Says how the projector fares, where anybody asks.
    pub(crate) fn tell(&self, status: Status) {
        if self.is_active() {
            self.projections.status.send_replace(Some(status));
        }
    }

    pub(crate) fn moved(&self, to: Position) {
        if self.is_active() {
            gauge!("ledger_projections_position", "tenant" => self.projections.tenant.to_string())
                .set(to.get() as f64);
            self.projections.local.send_replace(to);
        }
    }
}

pub(crate) async fn patiently<T>(
    step: impl Future<Output = Result<T, ProjectionError>>,
) -> Result<T, ProjectionError> {
    within(PATIENCE, step).await
}

/// A step of the database, which has this long to answer.
pub(crate) async fn within<T, E: From<ProjectionError>>(
    patience: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let lost = |_| ProjectionError::Failed(format!("the database does not answer within {patience:?}"));
    tokio::time::timeout(patience, step).await.map_err(lost)?
}

/// What is folded into a generation.
pub(crate) struct Source {
    /// What comes after where the fold stands.
    pub(crate) records: BoxStream<'static, Result<Record, ReadError>>,
    /// When the stream that they are of was created.
    pub(crate) stream_created: DateTime<Utc>,
}

/// Folds a source into a generation until the source ends, and everything is written; answers where the projections
/// stand then. `check_duplicates`: identities are looked for in the history.
pub(crate) async fn run(
    target: &GenerationHandle,
    connection: PgConnection,
    mut fold: Fold,
    source: Source,
    mut check_duplicates: bool,
    cancelled: &CancellationToken,
) -> Result<(Fold, PgConnection), ProjectionError> {
    let (sender, mut groups) = mpsc::channel(GROUPS_WAITING);
    let _reader = AbortOnDropHandle::new(tokio::spawn(decode(source.records, sender)));
    let (batches, queue) = mpsc::channel(BATCHES_WAITING);
    target.written.send_replace(fold.checkpoint.position);
    let mut look_ups = None;
    let writer = Writer { target: target.clone(), connection };
    let mut writer = AbortOnDropHandle::new(tokio::spawn(writer.run(queue, fold.checkpoint.clone())));
    // None once it has ended as it should; what it ends with before that is a failure.
    let failure = |done: Result<Result<PgConnection, ProjectionError>, _>| match done {
        Ok(Ok(_)) => ProjectionError::Failed("the writer ended".into()),
        Ok(Err(ended)) => ended,
        Err(_) => ProjectionError::Failed("the writer panicked".into()),
    };
    let end = loop {
        let room = tokio::select! {
            biased;
            () = cancelled.cancelled() => break Some(ProjectionError::Stopped(Stopped::Cancelled)),
            done = &mut writer => return Err(failure(done)),
            room = batches.reserve() => match room {
                Ok(room) => room,
                Err(_) => return Err(failure((&mut writer).await)),
            },
        };
        let group = tokio::select! {
            biased;
            () = cancelled.cancelled() => break Some(ProjectionError::Stopped(Stopped::Cancelled)),
            done = &mut writer => return Err(failure(done)),
            group = groups.recv() => group,
        };
        let (records, end) = gather(group, &mut groups);
        let mut room = Some(room);
        for records in apart(records) {
            let corrects = records.first().and_then(Decoded::corrects);
            let (mut known, mut corrected) = (HashMap::new(), None);
            if check_duplicates || corrects.is_some() {
                // What is under way is in the history only when it is written.
                let mut told = target.written.subscribe();
                let checkpoint = fold.checkpoint.position;
                tokio::select! {
                    done = &mut writer => return Err(failure(done)),
                    _ = told.wait_for(|written| *written >= checkpoint) => {}
                }
                let connection = match &mut look_ups {
                    Some(connection) => connection,
                    None => look_ups.insert(target.connect().await?),
                };
                known = patiently(async { Ok(identities(connection, &records).await?) }).await?;
                if let Some(key) = corrects {
                    corrected =
                        Some(patiently(async { Ok(corrections::find(connection, key).await?) }).await?);
                }
            }
            let batch = fold.batch(records, source.stream_created, &known, corrected);
            let batch = batch.map_err(|error| ProjectionError::Failed(error.to_string()))?;
            // Repeats come in runs, as when a history is imported again: then look on.
            check_duplicates &= batch.odd.repeats > 0 || corrects.is_some();
            match room.take() {
                Some(room) => room.send(batch),
                None => {
                    tokio::select! {
                        biased;
                        done = &mut writer => return Err(failure(done)),
                        sent = batches.send(batch) => {
                            if sent.is_err() {
                                return Err(failure((&mut writer).await));
                            }
                        }
                    }
                }
            }
        }
        if let Some(end) = end {
            break end;
        }
    };
    drop(batches);
    let connection = writer.await.map_err(|_| ProjectionError::Failed("the writer panicked".into()))??;
    match end {
        Some(ended) => Err(ended),
        None => Ok((fold, connection)),
    }
}

/// Records in batches: one that corrects another is a batch of its own, since what it corrects has to be in the tables.
fn apart(records: Vec<Decoded>) -> Vec<Vec<Decoded>> {
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

/// The records that are ready, and, where no more will come, why: `None` if the source has ended.
#[expect(clippy::option_option, reason = "an end that has come, and one that is as it should be")]
fn gather(
    first: Option<Group>,
    groups: &mut mpsc::Receiver<Group>,
) -> (Vec<Decoded>, Option<Option<ProjectionError>>) {
    let mut records = Vec::with_capacity(GROUP_RECORDS);
    let mut bytes = 0;
    let mut next = first;
    loop {
        match next {
            None => return (records, Some(None)),
            Some(Err(ended)) => return (records, Some(Some(ended))),
            Some(Ok(group)) => {
                bytes += group.iter().map(Decoded::weight).sum::<usize>();
                records.extend(group);
            }
        }
        if records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            return (records, None);
        }
        match groups.try_recv() {
            Ok(group) => next = Some(group),
            Err(_) => return (records, None),
        }
    }
}

/// Reads and decodes ahead of the fold, as far as the channel lets it.
async fn decode(records: BoxStream<'static, Result<Record, ReadError>>, sender: mpsc::Sender<Group>) {
    let mut groups = records.ready_chunks(GROUP_RECORDS);
    while let Some(group) = groups.next().await {
        let mut decoded = Vec::with_capacity(group.len());
        let mut ended = None;
        for record in group {
            match record.map_err(ProjectionError::from).and_then(decode_one) {
                Ok(record) => decoded.push(record),
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            }
        }
        // What stands before a poison entry is folded all the same.
        if sender.send(Ok(decoded)).await.is_err() {
            return;
        }
        if let Some(ended) = ended {
            // The receiver may be gone: then nobody needs to know.
            let _ = sender.send(Err(ended)).await;
            return;
        }
    }
}

fn decode_one(record: Record) -> Result<Decoded, ProjectionError> {
    match record {
        Record::Gap(position) => Ok(Decoded::Gap(position)),
        Record::Entry(entry) => match Envelope::stored(entry.bytes.clone()) {
            Ok(envelope) => {
                let (key, leaf) = (envelope.identity().key(), leaf_hash(&entry.bytes));
                Ok(Decoded::Entry { entry, key, envelope: Box::new(envelope), leaf })
            }
            Err(invalid) => {
                let reason = invalid.reason.to_string();
                Err(ProjectionError::Stopped(Stopped::Poison { position: entry.position, reason }))
            }
        },
    }
}

/// Writes batches, one transaction each.
struct Writer {
    target: GenerationHandle,
    connection: PgConnection,
}

impl Writer {
    /// Writes until there will be no more batches, and gives the connection back.
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut checkpoint: Checkpoint,
    ) -> Result<PgConnection, ProjectionError> {
        loop {
            match tokio::time::timeout(LOOK_AGAIN, batches.recv()).await {
                Ok(Some(batch)) => checkpoint = self.write(batch, checkpoint.position).await?,
                Ok(None) => return Ok(self.connection),
                Err(_) => {
                    patiently(still_stands(&mut self.connection, checkpoint.position)).await?;
                    self.target.well.send_replace(Instant::now());
                }
            }
        }
    }

    async fn write(&mut self, batch: Batch, from: Position) -> Result<Checkpoint, ProjectionError> {
        let began = Instant::now();
        let (records, odd) = (batch.records as u64, batch.odd);
        let written = patiently(async { Ok(batch.write(&mut self.connection).await?) }).await?;
        let checkpoint = written.ok_or(ProjectionError::Fenced(from))?;
        let tenant = self.target.projections.tenant.to_string();
        counter!("ledger_gaps_total", "tenant" => tenant.clone()).increment(odd.gaps);
        counter!("ledger_repeated_entries_total", "tenant" => tenant.clone()).increment(odd.repeats);
        histogram!("ledger_projector_commit_seconds", "tenant" => tenant.clone()).record(began.elapsed());
        counter!("ledger_projector_entries_total", "tenant" => tenant).increment(records);
        self.target.written.send_replace(checkpoint.position);
        self.target.well.send_replace(Instant::now());
        self.target.moved(checkpoint.position);
        Ok(checkpoint)
    }
}

/// Whether the tables are where they were left. A crash of Postgres may have lost the last batches, and then
/// nothing but this tells: no new entry need ever come.
async fn still_stands(connection: &mut PgConnection, left: Position) -> Result<(), ProjectionError> {
    let found = checkpoint::read(connection).await?.position;
    match found.cmp(&left) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ProjectionError::Fenced(found)),
        std::cmp::Ordering::Less => {
            Err(ProjectionError::Failed(format!("the tables are back at {found} and were at {left}")))
        }
    }
}

/// Closes a connection that is needed no longer.
pub(crate) async fn close(connection: PgConnection) {
    // It is gone in any case.
    let _ = connection.close().await;
}
