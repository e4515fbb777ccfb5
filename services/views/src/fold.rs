//! The views in memory, and what a batch of entries changes in their tables.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ledger_dialects::cloudevents::Envelope;
use ledger_domain::event::Fact;
use ledger_domain::{Anomaly, Family, IdentityKey, Position, Since};
use ledger_journal::Entry;
use ledger_proof::{Hash, Tile, Tree, gap_leaf_hash};
use sqlx::{Connection, PgConnection};
use tracing::warn;

use crate::database::{Error, SNAPSHOT};
use crate::environments::{EnvironmentRows, EnvironmentsFold};
use crate::events::{EventRows, look_up};
use crate::hindrances::HindranceRows;
use crate::lanes::{LaneChangeRows, LanesFold, TrackRows};
use crate::observations::{ObservationRows, ObservationsFold};
use crate::policies::{FreezesFold, PolicyRows};
use crate::projection::{self, Standing};
use crate::rollbacks::ReportRows;
use crate::verdicts::VerdictRows;
use crate::{marks, policies, rollbacks, tree};

/// A record of the journal that is ready to be folded.
pub(crate) enum Decoded {
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

    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Entry { entry, .. } => entry.bytes.len(),
            Self::Gap(_) => 0,
        }
    }
}

/// What was odd in a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odd {
    pub(crate) gaps: u64,
    pub(crate) repeats: u64,
}

/// A batch that was not folded: it does not follow on what was.
#[derive(Debug, thiserror::Error)]
#[error("the journal gave {given} after {standing}")]
pub(crate) struct OutOfOrder {
    given: Position,
    standing: Position,
}

/// The views in memory, as they stand at a position.
pub(crate) struct Fold {
    pub(crate) standing: Standing,
    tree: Tree,
    environments: EnvironmentsFold,
    lanes: LanesFold,
    observations: ObservationsFold,
    freezes: FreezesFold,
}

impl Fold {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
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

    /// Folds records, of which `known` tells the identities that the history has already.
    pub(crate) fn batch(
        &mut self,
        records: Vec<Decoded>,
        stream_created: DateTime<Utc>,
        known: &HashMap<IdentityKey, Position>,
    ) -> Result<Batch, OutOfOrder> {
        let mut batch = Batch { from: self.standing.position, records: records.len(), ..Batch::default() };
        let mut seen = HashMap::with_capacity(records.len());
        for record in records {
            let position = record.position();
            if position != self.standing.position.next() {
                return Err(OutOfOrder { given: position, standing: self.standing.position });
            }
            let leaf = match record {
                Decoded::Gap(position) => {
                    warn!(%position, "the journal has lost an entry");
                    batch.odd.gaps += 1;
                    batch.events.push_gap(position);
                    gap_leaf_hash(position.get())
                }
                Decoded::Entry { entry, key, envelope, leaf } => {
                    let first = known.get(&key).or_else(|| seen.get(&key)).copied();
                    if first.is_some() {
                        batch.odd.repeats += 1;
                        batch.events.push(&entry, &envelope, key, &leaf, first, None);
                    } else {
                        seen.insert(key, position);
                        let (anomaly, environment_id) = self.fold(&envelope, position, &mut batch);
                        batch.events.push(&entry, &envelope, key, &leaf, None, anomaly);
                        if is_written_in_turn(&envelope.event().fact) {
                            let recorded_at = entry.recorded_at;
                            batch.in_turn.push(InTurn { position, recorded_at, envelope, environment_id });
                        }
                    }
                    leaf
                }
            };
            self.tree.append(leaf);
            self.standing.position = position;
            self.standing.leaf_hash = Some(leaf);
        }
        self.standing.stream_created = Some(stream_created);
        self.standing.root = self.tree.root();
        batch.to = Some(self.standing.clone());
        batch.observations = self.observations.take_rows();
        batch.tracks = self.lanes.take_rows(&mut self.environments);
        batch.environments = self.environments.take_rows();
        batch.tiles = self.tree.take_dirty();
        Ok(batch)
    }

    fn fold(
        &mut self,
        envelope: &Envelope,
        position: Position,
        batch: &mut Batch,
    ) -> (Option<Anomaly>, Option<i32>) {
        let fact = &envelope.event().fact;
        let environment_id = fact.environment().map(|name| self.environments.named(name, position));
        batch.verdicts.push(fact, environment_id, position, envelope.occurred_at());
        batch.policies.push(fact, environment_id, position);
        batch.hindrances.push(fact, environment_id, position);
        batch.reports.push(fact, position);
        let since =
            Since { occurred_at: envelope.occurred_at(), position, event_id: envelope.identity().id.clone() };
        if let Some(id) = environment_id {
            self.freezes.apply(fact, id, since.occurred_at);
        }
        if let (Fact::EnvironmentObserved(observation), Some(id)) = (fact, environment_id) {
            let lanes = self.lanes.of(&observation.environment).cloned();
            self.observations.apply(observation, &since, id, lanes);
        }
        let Some(change) = fact.change() else { return (None, environment_id) };
        let frozen = environment_id
            .is_some_and(|id| fact.rollback_id().is_none() && self.freezes.hold(id, since.occurred_at));
        let applied =
            self.lanes.apply(change, since, fact.deployment(), &mut self.environments, &mut batch.changes);
        (applied.anomaly.or_else(|| frozen.then_some(Anomaly::DuringFreeze)), environment_id)
    }
}

/// Which identities of a batch the history has already.
pub(crate) async fn identities(
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

/// Whether a fact has rows that are written in turn.
const fn is_written_in_turn(fact: &Fact) -> bool {
    matches!(
        fact.kind().family(),
        Family::Rollback | Family::ReleasePoint | Family::Approval | Family::Freeze
    )
}

/// The rows that a batch of records adds and changes.
#[derive(Default)]
pub(crate) struct Batch {
    /// The position that it follows on.
    from: Position,
    /// Where the views stand with it; `None` if there is nothing in it.
    to: Option<Standing>,
    pub(crate) records: usize,
    pub(crate) odd: Odd,
    events: EventRows,
    changes: LaneChangeRows,
    verdicts: VerdictRows,
    policies: PolicyRows,
    hindrances: HindranceRows,
    reports: ReportRows,
    /// What is written one by one and in order, since later ones may change earlier ones' rows.
    in_turn: Vec<InTurn>,
    observations: ObservationRows,
    tracks: TrackRows,
    environments: EnvironmentRows,
    tiles: Vec<Tile>,
}

struct InTurn {
    position: Position,
    recorded_at: DateTime<Utc>,
    envelope: Box<Envelope>,
    environment_id: Option<i32>,
}

impl Batch {
    /// Writes the rows and the position in one transaction; answers where the views stand then, or `None` if
    /// another projector was first, and nothing was written.
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<Option<Standing>, Error> {
        let Some(to) = self.to else { return Ok(None) };
        let mut transaction = connection.begin().await?;
        if !projection::advance(&mut transaction, self.from, &to).await? {
            return Ok(None);
        }
        self.events.write(&mut transaction).await?;
        self.changes.write(&mut transaction).await?;
        self.verdicts.write(&mut transaction).await?;
        self.policies.write(&mut transaction).await?;
        self.hindrances.write(&mut transaction).await?;
        self.reports.write(&mut transaction).await?;
        for it in &self.in_turn {
            it.write(&mut transaction).await?;
        }
        self.observations.write(&mut transaction).await?;
        self.tracks.write(&mut transaction).await?;
        self.environments.write(&mut transaction).await?;
        tree::write(&mut transaction, &self.tiles).await?;
        transaction.commit().await?;
        Ok(Some(to))
    }
}

impl InTurn {
    async fn write(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (event, at, occurred_at) = (self.envelope.event(), self.position, self.envelope.occurred_at());
        let Some(id) = self.environment_id else { return Ok(()) };
        policies::write(&mut *connection, &event.fact, id, at, occurred_at).await?;
        marks::write(&mut *connection, event, id, at).await?;
        rollbacks::write(&mut *connection, &event.fact, id, at, self.recorded_at).await
    }
}
