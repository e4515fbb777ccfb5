//! Observed state of each lane: the last observation, and the first in the unbroken series that agrees with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::drift::ObservedState;
use ledger_domain::event::Observation;
use ledger_domain::{EnvironmentName, EventId, EventRef, Lane, Release, ServiceName, SlotName, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::{optional_columns, parse_lane, parse_release};

#[derive(sqlx::FromRow)]
struct Row {
    environment: String,
    service: String,
    target: String,
    slot: Option<String>,
    version: Option<String>,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
    since_position: i64,
    since_occurred_at: DateTime<Utc>,
    since_event_id: String,
    last_position: i64,
    last_occurred_at: DateTime<Utc>,
    last_event_id: String,
}

impl Row {
    fn parse(&self) -> Result<(Lane, ObservedState), Error> {
        let since = |at, occurred_at, id: &str| {
            EventId::stored(id).map(|event_id| EventRef { occurred_at, position: position(at), event_id })
        };
        parsed("observations", self.last_position, || {
            let lane = parse_lane(&self.environment, &self.service, &self.target)?;
            let parts = [&self.artifact, &self.config, &self.infrastructure, &self.commit];
            let state = ObservedState {
                slot: self.slot.as_deref().map(SlotName::parse).transpose()?,
                release: self.version.as_deref().map(|version| parse_release(version, parts)).transpose()?,
                since: since(self.since_position, self.since_occurred_at, &self.since_event_id)?,
                last: since(self.last_position, self.last_occurred_at, &self.last_event_id)?,
            };
            Ok::<_, Box<dyn std::error::Error>>((lane, state))
        })
    }
}

impl Snapshot {
    /// Returns the observed state of each lane of an environment, by service and target. A retired
    /// environment has none; after a retirement, only observations since the new declaration count.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn observations(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<BTreeMap<(ServiceName, TargetName), ObservedState>, Error> {
        let query = sqlx::query_as(sql!("observations/of_environment")).bind(environment.as_str());
        let rows: Vec<Row> = query.fetch_all(self.connection()).await?;
        let position = self.position();
        let standing = self.retirements(environment, position).await?.last();
        let mut all = BTreeMap::new();
        for row in &rows {
            let (lane, state) = row.parse()?;
            if standing.includes(state.last.occurred_at) {
                all.insert((lane.service, lane.target), state);
            }
        }
        Ok(all)
    }
}

/// In-memory projection of observed states.
#[derive(Default)]
pub(crate) struct ObservationProjection {
    /// Environment id and observed state, by lane.
    states: HashMap<Lane, (i32, ObservedState)>,
    dirty: BTreeSet<Lane>,
}

impl ObservationProjection {
    pub(crate) async fn load(
        connection: &mut PgConnection,
        environment_id: impl Fn(&EnvironmentName) -> Option<i32>,
    ) -> Result<Self, Error> {
        let rows: Vec<Row> = sqlx::query_as(sql!("observations/load")).fetch_all(connection).await?;
        let mut all = Self::default();
        for row in &rows {
            let (lane, state) = row.parse()?;
            let id = parsed("observations", row.last_position, || {
                environment_id(&lane.environment)
                    .ok_or_else(|| format!("unknown environment {}", lane.environment))
            })?;
            all.states.insert(lane, (id, state));
        }
        Ok(all)
    }

    /// Applies an observation. A complete observation also states that nothing runs in the other lanes at its targets.
    pub(crate) fn apply(
        &mut self,
        observation: &Observation,
        at: &EventRef,
        environment_id: i32,
        lanes: impl Iterator<Item = Lane>,
    ) {
        let environment = &observation.environment;
        let mut observed: BTreeMap<Lane, (Option<SlotName>, Option<Release>)> = BTreeMap::new();
        if observation.complete {
            let before = self.states.keys().filter(|lane| lane.environment == *environment).cloned();
            let lanes = lanes.chain(before).filter(|lane| observation.speaks_of(&lane.target));
            observed.extend(lanes.map(|lane| (lane, (None, None))));
        }
        for lane in &observation.lanes {
            let (service, target) = (lane.service.clone(), lane.target.clone());
            let key = Lane { environment: environment.clone(), service, target };
            observed.insert(key, (lane.slot.clone(), lane.release.clone()));
        }
        for (lane, (slot, release)) in observed {
            let state = match self.states.remove(&lane) {
                Some((_, before)) => before.and(slot, release, at.clone()),
                None => ObservedState { slot, release, since: at.clone(), last: at.clone() },
            };
            self.states.insert(lane.clone(), (environment_id, state));
            self.dirty.insert(lane);
        }
    }

    /// Returns the rows of the lanes that were observed since the last call.
    pub(crate) fn take_rows(&mut self) -> Vec<ObservationUpsert> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        let rows = dirty.filter_map(|lane| {
            let (environment_id, state) = self.states.get(&lane)?;
            Some(ObservationUpsert::new(&lane, *environment_id, state))
        });
        rows.collect()
    }
}

insert_row! {
    /// Row of `observations`.
    pub(crate) struct ObservationUpsert => "observations",
        "ON CONFLICT (environment_id, service, target) DO UPDATE SET slot = excluded.slot, version = excluded.version,
            artifact = excluded.artifact, config = excluded.config, infrastructure = excluded.infrastructure,
            commit = excluded.commit, since_position = excluded.since_position,
            since_occurred_at = excluded.since_occurred_at, since_event_id = excluded.since_event_id,
            last_position = excluded.last_position, last_occurred_at = excluded.last_occurred_at,
            last_event_id = excluded.last_event_id"
    {
        environment_id: i32,
        service: String,
        target: String,
        slot: Option<String>,
        version: Option<String>,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
        since_position: i64,
        since_occurred_at: DateTime<Utc>,
        since_event_id: String,
        last_position: i64,
        last_occurred_at: DateTime<Utc>,
        last_event_id: String,
    }
}

impl ObservationUpsert {
    fn new(lane: &Lane, environment_id: i32, state: &ObservedState) -> Self {
        let [artifact, config, infrastructure, commit] = optional_columns(state.release.as_ref());
        Self {
            environment_id,
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            slot: state.slot.as_ref().map(ToString::to_string),
            version: state.release.as_ref().map(|release| release.version.to_string()),
            artifact,
            config,
            infrastructure,
            commit,
            since_position: bigint(state.since.position),
            since_occurred_at: state.since.occurred_at,
            since_event_id: state.since.event_id.as_str().to_owned(),
            last_position: bigint(state.last.position),
            last_occurred_at: state.last.occurred_at,
            last_event_id: state.last.event_id.as_str().to_owned(),
        }
    }
}
