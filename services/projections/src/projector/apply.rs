//! The projector's state in memory, and the rows that a batch of entries adds and changes.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{Envelope, ForeignReason};
use ledger_domain::event::Payload;
use ledger_domain::{Anomaly, EventRef, Family, Identity, IdentityKey, Lane, Position};
use ledger_journal::Entry;
use ledger_tlog::{Hash, Tile, Tree, gap_leaf_hash};
use sqlx::{Connection, PgConnection};
use tracing::warn;

use crate::postgres::{Error, SNAPSHOT};
use crate::projector::checkpoint::{self, Checkpoint};
use crate::projector::tree;
use crate::queries::marks;
use crate::tables::artifacts::ArtifactRows;
use crate::tables::check_results::{self, CheckResultRows};
use crate::tables::clock_skews::{ClockSkewProjection, ClockSkewUpsert};
use crate::tables::corrections::{self, Corrected, EarlyCorrectionInsert, EarlyCorrections};
use crate::tables::deploys::{self, DeployRows, OpenDeployProjection};
use crate::tables::environments::{EnvironmentProjection, EnvironmentUpsert};
use crate::tables::events::{EventAnnotations, EventInsert, GapInsert, look_up};
use crate::tables::foreign_entries::ForeignEntryInsert;
use crate::tables::lane_projection::{LaneChange, LaneProjection, LaneRows};
use crate::tables::lanes::{self, TrackUpsert};
use crate::tables::observations::{ObservationProjection, ObservationUpsert};
use crate::tables::policies::{self, PolicyInsert};
use crate::tables::retirements::RetirementInsert;
use crate::tables::rollbacks::{self, RollbackReportInsert};
use crate::tables::subscriptions;

/// A decoded record of the journal.
pub(crate) enum Decoded {
    Entry { entry: Entry, key: IdentityKey, envelope: Box<Envelope>, leaf: Hash },
    Foreign { entry: Entry, lacks: ForeignReason, leaf: Hash },
    Gap(Position),
}

impl Decoded {
    pub(crate) const fn position(&self) -> Position {
        match self {
            Self::Entry { entry, .. } | Self::Foreign { entry, .. } => entry.position,
            Self::Gap(position) => *position,
        }
    }

    /// Returns the identity of the event, if the record is one.
    pub(crate) const fn key(&self) -> Option<IdentityKey> {
        match self {
            Self::Entry { key, .. } => Some(*key),
            Self::Foreign { .. } | Self::Gap(_) => None,
        }
    }

    /// Returns the identity of the event that this one corrects. Applying it needs the history of the corrected event.
    pub(crate) fn corrects(&self) -> Option<IdentityKey> {
        match self {
            Self::Entry { envelope, .. } => envelope.event().corrects.as_ref().map(|identity| identity.key()),
            Self::Foreign { .. } | Self::Gap(_) => None,
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Entry { entry, .. } | Self::Foreign { entry, .. } => entry.bytes.len(),
            Self::Gap(_) => 0,
        }
    }
}

/// Counts of the records in a batch that others than the tables need to know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchStats {
    pub(crate) gaps: u64,
    pub(crate) foreign: u64,
    pub(crate) repeats: u64,
    /// Failed checks, which the rollback controller responds to.
    pub(crate) failed_checks: u64,
}

/// A record that does not directly follow the last applied position.
#[derive(Debug, thiserror::Error)]
#[error("the journal returned position {received} after {applied}")]
pub(crate) struct OutOfOrder {
    received: Position,
    applied: Position,
}

/// The projector's state in memory at a position.
pub(crate) struct ProjectionState {
    pub(crate) checkpoint: Checkpoint,
    tree: Tree,
    environments: EnvironmentProjection,
    lanes: LaneProjection,
    observations: ObservationProjection,
    deploys: OpenDeployProjection,
    skews: ClockSkewProjection,
    corrections_ahead: EarlyCorrections,
}

impl ProjectionState {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        // One snapshot: all parts have the same position even while another projector writes.
        let mut transaction = connection.begin_with(SNAPSHOT).await?;
        let checkpoint = checkpoint::read(&mut transaction).await?;
        let tree = tree::load(&mut transaction, checkpoint.position).await?;
        if tree.root() != checkpoint.root {
            return Err(Error::Inconsistent {
                table: "tiles",
                row: format!("of size {}", checkpoint.position),
                detail: format!("their root is {}, but the checkpoint's is {}", tree.root(), checkpoint.root),
            });
        }
        let environments = EnvironmentProjection::load(&mut transaction).await?;
        let lanes = LaneProjection::load(&mut transaction, &environments).await?;
        let observations =
            ObservationProjection::load(&mut transaction, |name| environments.id(name)).await?;
        let deploys = OpenDeployProjection::load(&mut transaction).await?;
        let skews = ClockSkewProjection::load(&mut transaction).await?;
        let corrections_ahead = EarlyCorrections::load(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Self { checkpoint, tree, environments, lanes, observations, deploys, skews, corrections_ahead })
    }

    /// Applies records, and returns the rows to write. `known` holds the identities that the history already contains.
    pub(crate) fn apply(
        &mut self,
        records: Vec<Decoded>,
        stream_created: DateTime<Utc>,
        known: &HashMap<IdentityKey, Position>,
        corrected: Option<Corrected>,
    ) -> Result<Batch, OutOfOrder> {
        let mut corrected = corrected;
        let mut batch = Batch { from: self.checkpoint.position, records: records.len(), ..Batch::default() };
        let mut seen = HashMap::with_capacity(records.len());
        let mut first_foreign = None;
        for record in records {
            let position = record.position();
            if position != self.checkpoint.position.next() {
                return Err(OutOfOrder { received: position, applied: self.checkpoint.position });
            }
            let leaf = match record {
                Decoded::Gap(position) => {
                    warn!(%position, "gap in the journal: the entry is lost");
                    batch.stats.gaps += 1;
                    batch.gaps.push(GapInsert::new(position));
                    gap_leaf_hash(position.get())
                }
                Decoded::Foreign { entry, lacks, leaf } => {
                    batch.stats.foreign += 1;
                    first_foreign.get_or_insert((position, lacks));
                    batch.foreign.push(ForeignEntryInsert::new(&entry, lacks, &leaf));
                    leaf
                }
                Decoded::Entry { entry, key, envelope, leaf } => {
                    let first = known.get(&key).or_else(|| seen.get(&key)).copied();
                    if first.is_some() {
                        batch.stats.repeats += 1;
                        let outcome = EventAnnotations::default();
                        batch.events.push(EventInsert::new(&entry, &envelope, key, &leaf, first, &outcome));
                    } else {
                        seen.insert(key, position);
                        self.skews.apply(&envelope, position, entry.recorded_at);
                        let (outcome, environment_id) =
                            self.apply_event(&envelope, position, corrected.take(), &mut batch);
                        batch.events.push(EventInsert::new(&entry, &envelope, key, &leaf, None, &outcome));
                        if is_sequential(&envelope.event().payload) {
                            let recorded_at = entry.recorded_at;
                            batch.sequential.push(SequentialEvent {
                                position,
                                recorded_at,
                                envelope,
                                environment_id,
                            });
                        }
                    }
                    leaf
                }
            };
            self.tree.append(leaf);
            self.checkpoint.position = position;
            self.checkpoint.leaf_hash = Some(leaf);
        }
        if let Some((position, lacks)) = first_foreign {
            // One line for all of a batch: a stream may be full of them.
            let entries = batch.stats.foreign;
            warn!(%position, %lacks, entries, "foreign entries in the journal: no events of a ledger, without effect");
        }
        self.checkpoint.stream_created = Some(stream_created);
        self.checkpoint.root = self.tree.root();
        batch.to = Some(self.checkpoint.clone());
        batch.observations = self.observations.take_rows();
        batch.deploys = self.deploys.take_rows();
        batch.skews = self.skews.take_rows();
        batch.corrections_ahead = self.corrections_ahead.take_rows();
        batch.tracks = self.lanes.take_rows(&mut self.environments);
        batch.environments = self.environments.take_rows();
        batch.tiles = self.tree.take_dirty();
        Ok(batch)
    }

    fn apply_event(
        &mut self,
        envelope: &Envelope,
        position: Position,
        corrected: Option<Corrected>,
        batch: &mut Batch,
    ) -> (EventAnnotations, Option<i32>) {
        let event = envelope.event();
        let payload = &event.payload;
        batch.stats.failed_checks += u64::from(matches!(payload, Payload::ValidationFailed(_)));
        let mut outcome = EventAnnotations::default();
        let since = EventRef {
            occurred_at: envelope.occurred_at(),
            position,
            event_id: envelope.identity().id.clone(),
        };
        let occurred_at = since.occurred_at;
        let environment = payload.environment().filter(|_| !payload.is_remark());
        if environment.is_some_and(|name| self.environments.id(name).is_none()) {
            outcome.first_of.push("environment");
        }
        let environment_id = environment.map(|name| self.environments.named(name, position));
        // Resolve the target before a correction reverts anything.
        let target = payload.lane().map(|lane| self.lanes.target_of(lane));
        let mut touched = self.correct(event.corrects.as_ref(), corrected, &since, &mut outcome, batch);
        let ahead = self.corrections_ahead.of(envelope.identity().key()).filter(|_| payload.is_correctable());
        if let Some(by) = ahead {
            // A correction of this event came before it: the event has no effect.
            batch.corrected.push((position, by));
            batch.named.push((position, by));
            self.record(&touched, &since, &mut outcome, batch);
            return (outcome, environment_id);
        }
        batch.verdicts.push(payload, environment_id, position, occurred_at);
        if let Payload::ValidationPassed(validation) = payload
            && check_results::contradicts(validation)
        {
            outcome.anomalies.insert(Anomaly::CountsContradict);
        }
        batch.policies.extend(PolicyInsert::from_payload(payload, environment_id, position));
        batch.retirements.extend(RetirementInsert::from_payload(payload, environment_id, &since));
        batch.artifacts.push(payload, position, occurred_at);
        batch.reports.extend(RollbackReportInsert::from_payload(payload, position));
        if let (Payload::EnvironmentObserved(observation), Some(id)) = (payload, environment_id) {
            let lanes = self.lanes.of(&observation.environment);
            self.observations.apply(observation, &since, id, lanes);
        }
        touched.extend(self.retire(payload, &since, batch));
        if matches!(payload.kind().family(), Family::Deploy | Family::Traffic)
            && let (Some(lane), Some(id)) = (payload.lane(), environment_id)
        {
            match target {
                Some(Ok(target)) => {
                    let lane = lane.at(target);
                    touched.extend(self.change(envelope, lane, id, &since, &mut outcome, batch));
                }
                Some(Err(targets)) => {
                    outcome.anomalies.insert(Anomaly::AmbiguousTarget);
                    outcome.targets = targets;
                }
                None => {}
            }
        }
        self.record(&touched, &since, &mut outcome, batch);
        (outcome, environment_id)
    }

    /// Applies a retirement or a declaration of an environment, and returns the lanes that may run something else.
    fn retire(&mut self, payload: &Payload, since: &EventRef, batch: &mut Batch) -> Vec<Lane> {
        let (name, retires) = match payload {
            Payload::EnvironmentRetired(name) => (name, true),
            Payload::EnvironmentDeclared(name, _) => (name, false),
            _ => return Vec::new(),
        };
        self.lanes.retire(name, retires, since, &mut self.environments, &mut batch.lanes)
    }

    /// Records the live releases of lanes after an event, per environment: a correction may concern lanes of another
    /// environment than the event's.
    fn record(
        &mut self,
        touched: &[Lane],
        since: &EventRef,
        outcome: &mut EventAnnotations,
        batch: &mut Batch,
    ) {
        let mut environments: Vec<_> = touched.iter().map(|lane| lane.environment.clone()).collect();
        environments.sort();
        environments.dedup();
        for name in environments {
            let lanes: Vec<Lane> = touched.iter().filter(|lane| lane.environment == name).cloned().collect();
            let went_live = self.lanes.record(&name, &lanes, since, &mut self.environments, &mut batch.lanes);
            outcome.went_live = outcome.went_live.take().or(went_live);
        }
    }

    /// Reverts the changes of a corrected event, and returns the lanes that it had changed.
    fn correct(
        &mut self,
        corrects: Option<&Identity>,
        corrected: Option<Corrected>,
        since: &EventRef,
        outcome: &mut EventAnnotations,
        batch: &mut Batch,
    ) -> Vec<Lane> {
        let named = corrected.as_ref().and_then(|corrected| corrected.named);
        batch.named.extend(named.map(|named| (named, since.position)));
        let Some(corrected) = corrected.filter(|corrected| !corrected.positions.is_empty()) else {
            if let Some(corrects) = corrects.filter(|_| named.is_none()) {
                outcome.anomalies.insert(Anomaly::CorrectsNothing);
                self.corrections_ahead.add(corrects.key(), since.position);
            }
            return Vec::new();
        };
        for position in &corrected.positions {
            self.deploys.take_back(*position);
        }
        let mut touched = Vec::new();
        for (lane, history) in corrected.lanes {
            self.lanes.replace(&lane, history);
            for position in &corrected.positions {
                let environments = &mut self.environments;
                self.lanes.take_back(&lane, *position, since, environments, &mut batch.lanes);
            }
            touched.push(lane);
        }
        batch.corrected.extend(corrected.positions.into_iter().map(|position| (position, since.position)));
        touched
    }

    /// Applies a deploy, a removal or a switch, and returns the lane that it changed.
    fn change(
        &mut self,
        envelope: &Envelope,
        lane: Lane,
        environment_id: i32,
        since: &EventRef,
        outcome: &mut EventAnnotations,
        batch: &mut Batch,
    ) -> Option<Lane> {
        let payload = &envelope.event().payload;
        outcome.target = Some(lane.target.clone());
        let (new_service, new_target) = self.lanes.is_new(&lane);
        outcome.first_of.extend(new_service.then_some("service"));
        outcome.first_of.extend(new_target.then_some("target"));
        let is_retired = self.lanes.is_retired(&lane.environment, since.occurred_at);
        let version = match payload {
            Payload::DeployStarted(deploy) => Some(&deploy.release.version),
            _ => None,
        };
        let later = self.lanes.later(&lane, since, version);
        let moment = (since.position, since.occurred_at);
        self.deploys.apply(payload, &lane, environment_id, moment, later);
        let (_, track, effect) = payload.change()?;
        let changed = LaneChange { lane: &lane, track, effect, deployment: payload.deployment() };
        let anomalies = self.lanes.apply(changed, since, &mut self.environments, &mut batch.lanes);
        match is_retired {
            true => drop(outcome.anomalies.insert(Anomaly::EnvironmentRetired)),
            false => outcome.anomalies.extend(anomalies),
        }
        Some(lane)
    }
}

/// Returns the identities of a batch that the history already contains, with their positions.
pub(crate) async fn known_identities(
    connection: &mut PgConnection,
    batch: &[Decoded],
) -> Result<HashMap<IdentityKey, Position>, Error> {
    let keys: Vec<_> = batch.iter().filter_map(Decoded::key).collect();
    let known = look_up(connection, &keys).await?;
    Ok(known.into_iter().map(|(key, known)| (key, known.position)).collect())
}

/// Returns true if the rows of a payload must be written one event at a time.
const fn is_sequential(payload: &Payload) -> bool {
    matches!(
        payload.kind().family(),
        Family::Rollback | Family::ReleasePoint | Family::Approval | Family::Freeze | Family::Subscription
    )
}

/// The rows that a batch of records adds and changes.
#[derive(Default)]
pub(crate) struct Batch {
    /// The position before the batch.
    from: Position,
    /// The checkpoint after the batch; `None` if the batch is empty.
    to: Option<Checkpoint>,
    pub(crate) records: usize,
    pub(crate) stats: BatchStats,
    events: Vec<EventInsert>,
    gaps: Vec<GapInsert>,
    foreign: Vec<ForeignEntryInsert>,
    lanes: LaneRows,
    verdicts: CheckResultRows,
    policies: Vec<PolicyInsert>,
    retirements: Vec<RetirementInsert>,
    artifacts: ArtifactRows,
    deploys: DeployRows,
    skews: Vec<ClockSkewUpsert>,
    reports: Vec<RollbackReportInsert>,
    /// Positions of events that no longer have effect, each with the position of its correction.
    corrected: Vec<(Position, Position)>,
    /// Positions of events that corrections name, each with the position of the correction.
    named: Vec<(Position, Position)>,
    /// Events that are written one by one in order, since later ones may change rows of earlier ones.
    sequential: Vec<SequentialEvent>,
    observations: Vec<ObservationUpsert>,
    tracks: Vec<TrackUpsert>,
    environments: Vec<EnvironmentUpsert>,
    corrections_ahead: Vec<EarlyCorrectionInsert>,
    tiles: Vec<Tile>,
}

struct SequentialEvent {
    position: Position,
    recorded_at: DateTime<Utc>,
    envelope: Box<Envelope>,
    environment_id: Option<i32>,
}

impl Batch {
    /// Writes the rows and the position in one transaction, and returns the new checkpoint. Returns `None` without
    /// writing if another projector advanced the position first. One statement does all, in one round trip, unless rows
    /// of earlier events change.
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<Option<Checkpoint>, Error> {
        let Some(to) = self.to else { return Ok(None) };
        let mut rows = checkpoint::advance(self.from, &to)?;
        rows.insert(self.events)?;
        rows.insert(self.gaps)?;
        rows.insert(self.foreign)?;
        rows.insert(self.corrections_ahead)?;
        self.lanes.add_to(&mut rows)?;
        self.verdicts.add_to(&mut rows)?;
        rows.insert(self.policies)?;
        rows.insert(self.retirements)?;
        self.artifacts.add_to(&mut rows)?;
        self.deploys.add_to(&mut rows)?;
        rows.insert(self.skews)?;
        rows.insert(self.reports)?;
        rows.insert(self.observations)?;
        rows.insert(self.tracks)?;
        rows.insert(self.environments)?;
        tree::add_to(&mut rows, &self.tiles)?;
        if self.corrected.is_empty() && self.named.is_empty() && self.sequential.is_empty() {
            return Ok(rows.execute(connection).await?.then_some(to));
        }
        let mut transaction = connection.begin().await?;
        if !rows.execute(&mut transaction).await? {
            return Ok(None);
        }
        for (corrected, from) in self.corrected {
            lanes::correct(&mut transaction, corrected, from).await?;
            check_results::correct(&mut transaction, corrected, from).await?;
            deploys::correct(&mut transaction, corrected, from).await?;
            corrections::write(&mut transaction, corrected, from, false).await?;
        }
        for (named, by) in self.named {
            corrections::write(&mut transaction, named, by, true).await?;
        }
        for it in &self.sequential {
            it.write(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(Some(to))
    }
}

impl SequentialEvent {
    async fn write(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (event, at, occurred_at) = (self.envelope.event(), self.position, self.envelope.occurred_at());
        subscriptions::write(&mut *connection, &event.payload, at).await?;
        let Some(id) = self.environment_id else { return Ok(()) };
        policies::write(&mut *connection, &event.payload, id, at, occurred_at).await?;
        marks::write(&mut *connection, event, id, at, occurred_at).await?;
        rollbacks::write(&mut *connection, &event.payload, id, at, self.recorded_at).await
    }
}
