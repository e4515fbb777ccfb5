//! Corrections: events that later events replace. From the correction's position on, the corrected event has no effect.
//! Both stay in the history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ledger_codec::cloudevents::Envelope;
use ledger_domain::{IdentityKey, Lane, LaneFold, Position};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::{far_future, load_histories, parse_lane};

/// The history of an event that is corrected.
#[derive(Debug, Default)]
pub(crate) struct Corrected {
    /// The position of the event that the correction names, if it can be corrected.
    pub(crate) named: Option<Position>,
    /// Its position and those of its earlier corrections that still have effect.
    pub(crate) positions: Vec<Position>,
    /// The lanes that these events changed, with their complete histories.
    pub(crate) lanes: Vec<(Lane, LaneFold)>,
}

/// In-memory projection of corrections that were recorded before the events that they name.
#[derive(Default)]
pub(crate) struct EarlyCorrections {
    /// Position of the first correction, by the identity of the corrected event.
    first: HashMap<IdentityKey, Position>,
    added: Vec<EarlyCorrectionInsert>,
}

impl EarlyCorrections {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        let rows: Vec<(Uuid, i64)> =
            sqlx::query_as(sql!("corrections/load_early")).fetch_all(connection).await?;
        let first = rows.into_iter().map(|(key, at)| (IdentityKey(key), position(at)));
        Ok(Self { first: first.collect(), added: Vec::new() })
    }

    pub(crate) fn add(&mut self, key: IdentityKey, by: Position) {
        if let Entry::Vacant(vacant) = self.first.entry(key) {
            vacant.insert(by);
            self.added.push(EarlyCorrectionInsert { identity: key.0, position: bigint(by) });
        }
    }

    /// Returns the position of the correction that was recorded before the event with this identity.
    pub(crate) fn of(&self, key: IdentityKey) -> Option<Position> {
        self.first.get(&key).copied()
    }

    pub(crate) fn take_rows(&mut self) -> Vec<EarlyCorrectionInsert> {
        std::mem::take(&mut self.added)
    }
}

insert_row! {
    /// Row of `corrections_ahead`.
    pub(crate) struct EarlyCorrectionInsert => "corrections_ahead", "ON CONFLICT (identity) DO NOTHING" {
        identity: Uuid,
        position: i64,
    }
}

/// Loads the event that is to be corrected, its earlier corrections and the lanes that they changed. The result is
/// empty if the history does not have the event, or if it cannot be corrected.
pub(crate) async fn find(connection: &mut PgConnection, key: IdentityKey) -> Result<Corrected, Error> {
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as(sql!("corrections/find_event")).bind(key.0).fetch_optional(&mut *connection).await?;
    let Some((at, bytes)) = row else { return Ok(Corrected::default()) };
    let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
    if !envelope.event().payload.is_correctable() {
        return Ok(Corrected::default());
    }
    let positions: Vec<i64> =
        sqlx::query_scalar(sql!("corrections/effective_chain")).bind(at).fetch_all(&mut *connection).await?;
    let rows: Vec<(i32, String, String, String)> = sqlx::query_as(sql!("corrections/changed_lanes"))
        .bind(&positions)
        .fetch_all(&mut *connection)
        .await?;
    let mut corrected = Corrected {
        named: Some(position(at)),
        positions: positions.into_iter().map(position).collect(),
        lanes: Vec::new(),
    };
    for (id, environment, service, target) in rows {
        let lane = parsed("tracks", &service, || parse_lane(&environment, &service, &target))?;
        let key = [(lane.service.clone(), lane.target.clone())];
        let now = Position::new(i64::MAX.cast_unsigned());
        let folds = load_histories(connection, id, &key, now, far_future()).await?;
        corrected.lanes.extend(folds.into_iter().map(|fold| (lane.clone(), fold)));
    }
    Ok(corrected)
}

impl Snapshot {
    /// Returns true if the event at a position has been corrected.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn is_corrected(&mut self, at: Position) -> Result<bool, Error> {
        let query = sqlx::query_scalar(sql!("corrections/is_corrected")).bind(bigint(at));
        Ok(query.fetch_one(self.connection()).await?)
    }
}

/// Records that an event has no effect from the position `from` on. `named` is true if the correction names the event
/// itself, and false if the event is an earlier correction of the named one.
pub(crate) async fn write(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
    named: bool,
) -> Result<(), Error> {
    sqlx::query(sql!("corrections/insert"))
        .bind(bigint(corrected))
        .bind(bigint(from))
        .bind(named)
        .execute(connection)
        .await?;
    Ok(())
}
