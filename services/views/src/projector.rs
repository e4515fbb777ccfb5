//! The follower that folds the journal into the views.
//!
//! It takes entries in order and in batches that grow under load: whatever is ready, up to a limit,
//! is one transaction of rows, tiles and position. Reading and decoding go on while a batch is
//! written. Whatever goes wrong, the memory is thrown away and read again from the tables, so that
//! the tables are the only truth.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use ledger_dialects::cloudevents::Envelope;
use ledger_domain::event::Fact;
use ledger_domain::{Anomaly, Family, IdentityKey, Position, Since};
use ledger_journal::{Entry, ReadError, Record, Scope, SharedJournal, Until};
use ledger_proof::{Hash, Tree, gap_leaf_hash, leaf_hash};
use metrics::{counter, gauge, histogram};
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Views;
use crate::database::{Error, SNAPSHOT};
use crate::environments::EnvironmentsFold;
use crate::events::{EventRows, IDENTITY_INDEX, look_up};
use crate::lanes::{LaneChangeRows, LanesFold};
use crate::observations::ObservationsFold;
use crate::policies::FreezesFold;
use crate::projection::{self, Recognised, Standing, recognise};
use crate::verdicts::VerdictRows;
use crate::{hindrances, marks, policies, rollbacks, tree};

/// A batch ends at this many records …
const BATCH_RECORDS: usize = 4_000;
/// … or at this many bytes of entries.
const BATCH_BYTES: usize = 8 << 20;
/// Records that are decoded together, and how many such groups may wait.
const GROUP_RECORDS: usize = 256;
const GROUPS_WAITING: usize = 16;
/// How often an idle projector looks whether the tables still stand where it left them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A step with the database that takes longer has lost it: sqlx does not notice a host that vanishes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The journal is believed to have lost its end when it says so this often in a row, which takes more than ten
/// seconds: while another server becomes its leader, it may know less than before, and a leader that is cut
/// off from the others takes as long to notice.
const DOUBTS: u32 = 8;
/// How long to wait after a failure: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a projector is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It has not begun.
    Starting,
    /// It follows the journal.
    Following,
    /// Something that may pass keeps it from going on; it tries again.
    Waiting(String),
    /// It will not go on by itself.
    Stopped(Stopped),
}

/// Why a projector does not go on: each wants a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The service ends.
    #[error("the service ends")]
    Cancelled,
    /// The journal is not the one that the views were folded from.
    #[error("the journal is not the one that the views were folded from: {0}")]
    Diverged(String),
    /// An entry cannot be decoded by this version of the program.
    #[error("the entry at position {position} cannot be decoded: {reason}")]
    Poison {
        /// Where it is.
        position: Position,
        /// Why.
        reason: String,
    },
}

/// Why a run of the projector ended.
enum Ended {
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

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        if let Error::Database(sqlx::Error::Database(refused)) = &error
            && refused.is_unique_violation()
            && refused.constraint() == Some(IDENTITY_INDEX)
        {
            return Self::Repeated;
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Failed(text)
    }
}

impl From<sqlx::Error> for Ended {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The projector of one tenant.
pub struct Projector {
    views: Views,
    journal: SharedJournal,
    status: watch::Sender<Status>,
}

impl Projector {
    /// A projector of a journal into views, and what tells how it fares.
    #[must_use]
    pub fn new(views: Views, journal: SharedJournal) -> (Self, watch::Receiver<Status>) {
        let (status, told) = watch::channel(Status::Starting);
        (Self { views, journal, status }, told)
    }

    /// Follows the journal until the token is cancelled, or a person is needed.
    pub async fn run(self, cancelled: CancellationToken) -> Stopped {
        let mut back_off = BACK_OFF.0;
        let mut careful = false;
        let mut doubts = 0;
        loop {
            let began = Instant::now();
            let mut ended = match self.follow(&cancelled, careful).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            if began.elapsed() > BACK_OFF.1 {
                back_off = BACK_OFF.0;
            }
            doubts = if matches!(ended, Ended::Doubtful(_)) { doubts + 1 } else { 0 };
            if let Ended::Doubtful(reason) = ended {
                ended = if doubts < DOUBTS {
                    Ended::Failed(reason)
                } else {
                    Ended::Stopped(Stopped::Diverged(reason))
                };
            }
            careful = matches!(ended, Ended::Repeated);
            match ended {
                Ended::Stopped(stopped) => {
                    if let Stopped::Diverged(reason) = &stopped {
                        self.views.divergence.send_replace(Some(reason.clone()));
                    }
                    if stopped != Stopped::Cancelled {
                        error!(tenant = %self.views.tenant, reason = %stopped, "the projector has stopped");
                    }
                    self.status.send_replace(Status::Stopped(stopped.clone()));
                    return stopped;
                }
                Ended::Fenced(position) => {
                    counter!("ledger_projector_fenced_total", "tenant" => self.views.tenant.to_string())
                        .increment(1);
                    info!(tenant = %self.views.tenant, %position, "another projector was first");
                }
                Ended::Repeated => continue,
                Ended::Doubtful(reason) | Ended::Failed(reason) => {
                    warn!(tenant = %self.views.tenant, reason, "the projector waits and tries again");
                    self.status.send_replace(Status::Waiting(reason));
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = tokio::time::sleep(back_off) => back_off = (back_off * 2).min(BACK_OFF.1),
            }
        }
    }

    async fn follow(
        &self,
        cancelled: &CancellationToken,
        mut careful: bool,
    ) -> Result<std::convert::Infallible, Ended> {
        let (mut connection, mut fold) = patiently(async {
            let mut connection = PgConnection::connect_with(&self.views.pool.connect_options()).await?;
            // Rows and position are lost together, and what is lost is read from the journal again.
            sqlx::query("SET synchronous_commit = off").execute(&mut connection).await?;
            let fold = Fold::load(&mut connection).await?;
            Ok((connection, fold))
        })
        .await?;
        match recognise(self.journal.as_ref(), &fold.standing).await? {
            Recognised::Same => {}
            Recognised::Doubtful(reason) => return Err(Ended::Doubtful(reason)),
            Recognised::Other(reason) => return Err(Ended::Stopped(Stopped::Diverged(reason))),
        }
        self.moved(&fold.standing);
        self.status.send_replace(Status::Following);
        let created = self.journal.head().await?.created;
        let (sender, mut groups) = mpsc::channel(GROUPS_WAITING);
        let records = self.journal.read(Scope::All, fold.standing.position, Until::Forever);
        let reader = tokio::spawn(decode(records, sender));
        let _abort = tokio_util::task::AbortOnDropHandle::new(reader);
        loop {
            let group = tokio::select! {
                biased;
                () = cancelled.cancelled() => return Err(Ended::Stopped(Stopped::Cancelled)),
                group = groups.recv() => group,
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    patiently(fold.still_stands(&mut connection)).await?;
                    continue;
                }
            };
            let mut batch = Vec::with_capacity(GROUP_RECORDS);
            let mut bytes = 0;
            let mut next = group;
            let end = loop {
                match next {
                    None => break Some(Ended::Failed("the reader of the journal ended".into())),
                    Some(Err(ended)) => break Some(ended),
                    Some(Ok(group)) => {
                        bytes += group.iter().map(Decoded::weight).sum::<usize>();
                        batch.extend(group);
                    }
                }
                if batch.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                    break None;
                }
                match groups.try_recv() {
                    Ok(group) => next = Some(group),
                    Err(_) => break None,
                }
            };
            if !batch.is_empty() {
                let began = Instant::now();
                let odd = patiently(fold.commit(&mut connection, &batch, created, careful)).await?;
                // Repeats come in runs, as when a history is imported again: then look on.
                careful &= odd.repeats > 0;
                let tenant = self.views.tenant.to_string();
                counter!("ledger_gaps_total", "tenant" => tenant.clone()).increment(odd.gaps);
                counter!("ledger_repeated_entries_total", "tenant" => tenant.clone()).increment(odd.repeats);
                histogram!("ledger_projector_commit_seconds", "tenant" => tenant.clone())
                    .record(began.elapsed());
                counter!("ledger_projector_entries_total", "tenant" => tenant).increment(batch.len() as u64);
                self.moved(&fold.standing);
            }
            if let Some(ended) = end {
                return Err(ended);
            }
        }
    }

    fn moved(&self, standing: &Standing) {
        gauge!("ledger_views_position", "tenant" => self.views.tenant.to_string())
            .set(standing.position.get() as f64);
        self.views.local.send_replace(standing.position);
    }
}

/// A record that is ready to be folded.
enum Decoded {
    Entry { entry: Entry, key: IdentityKey, envelope: Box<Envelope>, leaf: Hash },
    Gap(Position),
}

impl Decoded {
    const fn position(&self) -> Position {
        match self {
            Self::Entry { entry, .. } => entry.position,
            Self::Gap(position) => *position,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Entry { entry, .. } => entry.bytes.len(),
            Self::Gap(_) => 0,
        }
    }
}

type Group = Result<Vec<Decoded>, Ended>;

/// Reads and decodes ahead of the writer, as far as the channel lets it.
async fn decode(
    records: futures::stream::BoxStream<'static, Result<Record, ReadError>>,
    sender: mpsc::Sender<Group>,
) {
    let mut groups = records.ready_chunks(GROUP_RECORDS);
    while let Some(group) = groups.next().await {
        let mut decoded = Vec::with_capacity(group.len());
        let mut ended = None;
        for record in group {
            match record.map_err(Ended::from).and_then(decode_one) {
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

fn decode_one(record: Record) -> Result<Decoded, Ended> {
    match record {
        Record::Gap(position) => Ok(Decoded::Gap(position)),
        Record::Entry(entry) => match Envelope::parse(&entry.bytes) {
            Ok(envelope) => {
                let (key, leaf) = (envelope.identity().key(), leaf_hash(&entry.bytes));
                Ok(Decoded::Entry { entry, key, envelope: Box::new(envelope), leaf })
            }
            Err(invalid) => {
                let reason = invalid.reason.to_string();
                Err(Ended::Stopped(Stopped::Poison { position: entry.position, reason }))
            }
        },
    }
}

/// What was odd in a batch.
#[derive(Default)]
struct Odd {
    gaps: u64,
    repeats: u64,
}

async fn patiently<T>(step: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let lost = |_| Ended::Failed(format!("the database does not answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, step).await.map_err(lost)?
}

/// The views in memory, as they stand at a position.
struct Fold {
    standing: Standing,
    tree: Tree,
    environments: EnvironmentsFold,
    lanes: LanesFold,
    observations: ObservationsFold,
    freezes: FreezesFold,
}

/// The rows of a batch that are added, and never changed.
#[derive(Default)]
struct Rows<'b> {
    events: EventRows<'b>,
    changes: LaneChangeRows,
    verdicts: VerdictRows,
    /// What is written one by one and in order, since later ones may change earlier ones' rows.
    in_turn: Vec<InTurn<'b>>,
}

struct InTurn<'b> {
    entry: &'b Entry,
    envelope: &'b Envelope,
    environment_id: Option<i32>,
}

impl Rows<'_> {
    async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        self.events.write(&mut *connection).await?;
        self.changes.write(&mut *connection).await?;
        self.verdicts.write(&mut *connection).await?;
        for InTurn { entry, envelope, environment_id } in self.in_turn {
            let (event, at, occurred_at) = (envelope.event(), entry.position, envelope.occurred_at());
            hindrances::write(&mut *connection, &event.fact, environment_id, at).await?;
            let Some(id) = environment_id else { continue };
            policies::write(&mut *connection, &event.fact, id, at, occurred_at).await?;
            marks::write(&mut *connection, event, id, at).await?;
            rollbacks::write(&mut *connection, &event.fact, id, at, entry.recorded_at).await?;
        }
        Ok(())
    }
}

/// Whether a fact has rows that are written in turn.
fn is_written_in_turn(fact: &Fact) -> bool {
    match fact {
        Fact::DeploySucceeded(deploy) => !deploy.reversible || deploy.rollback_id.is_some(),
        Fact::ArtifactRevoked(_) | Fact::EnvironmentDeclared(..) => true,
        _ => {
            let family = fact.kind().family();
            fact.rollback_id().is_some()
                || matches!(
                    family,
                    Family::Rollback | Family::ReleasePoint | Family::Approval | Family::Freeze
                )
        }
    }
}

impl Fold {
    async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        // One snapshot, so that the parts are of the same position also while another projector writes.
        let mut transaction = connection.begin_with(SNAPSHOT).await?;
        let standing = projection::read(&mut transaction).await?;
        let tree = tree::load(&mut transaction, standing.position).await?;
        if tree.root() != standing.root {
            return Err(Error::Inconsistent {
                table: "tiles",
                row: format!("of size {}", standing.position),
                detail: format!("their root is {}, the projection's is {}", tree.root(), standing.root),
            });
        }
        let environments = EnvironmentsFold::load(&mut transaction).await?;
        let lanes = LanesFold::load(&mut transaction).await?;
        let observations = ObservationsFold::load(&mut transaction, |name| environments.id(name)).await?;
        let freezes = FreezesFold::load(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Self { standing, tree, environments, lanes, observations, freezes })
    }

    /// Whether the tables are where this fold left them. A crash of Postgres may have lost the last
    /// batches, and then nothing but this tells: no new entry need ever come.
    async fn still_stands(&self, connection: &mut PgConnection) -> Result<(), Ended> {
        let found = projection::read(connection).await?;
        match found.position.cmp(&self.standing.position) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(Ended::Fenced(found.position)),
            Ordering::Less => Err(Ended::Failed(format!(
                "the tables are back at {} and were at {}",
                found.position, self.standing.position
            ))),
        }
    }

    /// Folds a batch and writes it with the position, in one transaction.
    async fn commit(
        &mut self,
        connection: &mut PgConnection,
        batch: &[Decoded],
        stream_created: chrono::DateTime<chrono::Utc>,
        careful: bool,
    ) -> Result<Odd, Ended> {
        let from = self.standing.position;
        let mut odd = Odd::default();
        let known = if careful { identities(connection, batch).await? } else { HashMap::new() };
        let mut seen = HashMap::with_capacity(batch.len());
        let mut rows = Rows::default();
        for record in batch {
            if record.position() != self.standing.position.next() {
                return Err(Ended::Failed(format!(
                    "the journal gave {} after {}",
                    record.position(),
                    self.standing.position
                )));
            }
            let leaf = match record {
                Decoded::Gap(position) => {
                    warn!(%position, "the journal has lost an entry");
                    odd.gaps += 1;
                    rows.events.push_gap(*position);
                    gap_leaf_hash(position.get())
                }
                Decoded::Entry { entry, key, envelope, leaf } => {
                    let first = known.get(key).or_else(|| seen.get(key)).copied();
                    let anomaly = if first.is_some() {
                        odd.repeats += 1;
                        None
                    } else {
                        seen.insert(*key, entry.position);
                        self.fold(envelope, entry, &mut rows)
                    };
                    rows.events.push(entry, envelope, leaf, first, anomaly);
                    *leaf
                }
            };
            self.tree.append(leaf);
            self.standing.position = record.position();
            self.standing.leaf_hash = Some(leaf);
        }
        self.standing.stream_created = Some(stream_created);
        self.standing.root = self.tree.root();
        let mut transaction = connection.begin().await?;
        if !projection::advance(&mut transaction, from, &self.standing).await? {
            return Err(Ended::Fenced(from));
        }
        rows.write(&mut transaction).await?;
        self.observations.write(&mut transaction).await?;
        self.lanes.write(&mut self.environments, &mut transaction).await?;
        self.environments.write(&mut transaction).await?;
        tree::write(&mut transaction, &self.tree.take_dirty()).await?;
        transaction.commit().await?;
        Ok(odd)
    }

    fn fold<'b>(&mut self, envelope: &'b Envelope, entry: &'b Entry, rows: &mut Rows<'b>) -> Option<Anomaly> {
        let (fact, position) = (&envelope.event().fact, entry.position);
        let environment_id = fact.environment().map(|name| self.environments.named(name, position));
        rows.verdicts.push(fact, environment_id, position, envelope.occurred_at());
        if is_written_in_turn(fact) {
            rows.in_turn.push(InTurn { entry, envelope, environment_id });
        }
        let since =
            Since { occurred_at: envelope.occurred_at(), position, event_id: envelope.identity().id.clone() };
        if let Some(id) = environment_id {
            self.freezes.apply(fact, id, since.occurred_at);
        }
        if let (Fact::EnvironmentObserved(observation), Some(id)) = (fact, environment_id) {
            let lanes = self.lanes.of(&observation.environment).cloned();
            self.observations.apply(observation, &since, id, lanes);
        }
        let change = fact.change()?;
        let frozen = environment_id
            .is_some_and(|id| fact.rollback_id().is_none() && self.freezes.hold(id, since.occurred_at));
        let applied =
            self.lanes.apply(change, since, fact.deployment(), &mut self.environments, &mut rows.changes);
        applied.anomaly.or_else(|| frozen.then_some(Anomaly::DuringFreeze))
    }
}

/// Which identities of a batch the history has already.
async fn identities(
    connection: &mut PgConnection,
    batch: &[Decoded],
) -> Result<HashMap<IdentityKey, Position>, Error> {
    let keys: Vec<_> = batch
        .iter()
        .filter_map(|record| match record {
            Decoded::Entry { key, .. } => Some(*key),
            Decoded::Gap(_) => None,
        })
        .collect();
    let known = look_up(connection, &keys).await?;
    Ok(known.into_iter().map(|(key, known)| (key, known.position)).collect())
}
