//! Events that were replaced by later ones: from the correction's position on they have no effect, and both stay in the history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ledger_codec::cloudevents::Envelope;
use ledger_domain::{IdentityKey, Position};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::projector::apply::Corrected;
use crate::tables::lanes::{far_future, histories, lane};

pub(crate) const STATEMENTS: &[&str] = &[FIND, CHAIN, LANES, IS_CORRECTED, WRITE, LOAD_AHEAD, WRITE_AHEAD];

const FIND: &str = "SELECT position, bytes FROM events WHERE identity = $1 AND repeats IS NULL";

/// The corrections of an event, and the corrections of those, that have effect; and the event itself, if it has.
const CHAIN: &str = "WITH RECURSIVE chain AS (
        SELECT $1::bigint AS position
        UNION
        SELECT c.corrected_position FROM corrections c JOIN chain USING (position) WHERE c.named
    )
    SELECT position FROM chain h
    WHERE NOT EXISTS (SELECT FROM corrections c WHERE c.position = h.position) ORDER BY position";

const LANES: &str = "SELECT DISTINCT e.environment_id, e.name, t.service, t.target
    FROM lane_changes c JOIN tracks t USING (track_id) JOIN environments e ON e.environment_id = t.environment_id
    WHERE c.position = ANY($1)";

const IS_CORRECTED: &str = "SELECT EXISTS (SELECT FROM corrections WHERE position = $1)";

const WRITE: &str = "INSERT INTO corrections (position, corrected_position, named) VALUES ($1, $2, $3)
    ON CONFLICT (position, corrected_position) DO UPDATE SET named = corrections.named OR excluded.named";

const LOAD_AHEAD: &str = "SELECT identity, position FROM corrections_ahead";

const WRITE_AHEAD: &str = "INSERT INTO corrections_ahead (identity, position)
    SELECT unnest($1::uuid[]), unnest($2::bigint[]) ON CONFLICT (identity) DO NOTHING";

/// Corrections of events that the ledger does not know yet, in the projector's memory.
#[derive(Default)]
pub(crate) struct CorrectionsAhead {
    /// By the identity of the event, the position of the first correction of it.
    known: HashMap<IdentityKey, Position>,
    added: Vec<(IdentityKey, Position)>,
}

impl CorrectionsAhead {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(LOAD_AHEAD).fetch_all(connection).await?;
        let known = rows.into_iter().map(|(key, at)| (IdentityKey(key), position(at)));
        Ok(Self { known: known.collect(), added: Vec::new() })
    }

    pub(crate) fn add(&mut self, key: IdentityKey, by: Position) {
        if let Entry::Vacant(vacant) = self.known.entry(key) {
            vacant.insert(by);
            self.added.push((key, by));
        }
    }

    /// Returns the position of the correction of an event that comes after it.
    pub(crate) fn of(&self, key: IdentityKey) -> Option<Position> {
        self.known.get(&key).copied()
    }

    pub(crate) fn take_rows(&mut self) -> Vec<(IdentityKey, Position)> {
        std::mem::take(&mut self.added)
    }
}

/// Writes corrections of events that are not known yet.
pub(crate) async fn write_ahead(
    connection: &mut PgConnection,
    rows: Vec<(IdentityKey, Position)>,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (keys, positions): (Vec<Uuid>, Vec<i64>) =
        rows.into_iter().map(|(key, by)| (key.0, bigint(by))).unzip();
    sqlx::query(WRITE_AHEAD).bind(keys).bind(positions).execute(connection).await?;
    Ok(())
}

/// Returns what the history has of an event that is to be corrected. Nothing where it does not know it, or where it cannot
/// be corrected.
pub(crate) async fn find(connection: &mut PgConnection, key: IdentityKey) -> Result<Corrected, Error> {
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as(FIND).bind(key.0).fetch_optional(&mut *connection).await?;
    let Some((at, bytes)) = row else { return Ok(Corrected::default()) };
    let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
    if !envelope.event().payload.is_correctable() {
        return Ok(Corrected::default());
    }
    let positions: Vec<i64> = sqlx::query_scalar(CHAIN).bind(at).fetch_all(&mut *connection).await?;
    let rows: Vec<(i32, String, String, String)> =
        sqlx::query_as(LANES).bind(&positions).fetch_all(&mut *connection).await?;
    let mut corrected = Corrected {
        named: Some(position(at)),
        positions: positions.into_iter().map(position).collect(),
        lanes: Vec::new(),
    };
    for (id, environment, service, target) in rows {
        let lane = parsed("tracks", &service, || lane(&environment, &service, &target))?;
        let key = [(lane.service.clone(), lane.target.clone())];
        let now = Position::new(i64::MAX.cast_unsigned());
        let folds = histories(connection, id, &key, now, far_future()).await?;
        corrected.lanes.extend(folds.into_iter().map(|fold| (lane.clone(), fold)));
    }
    Ok(corrected)
}

impl Snapshot {
    /// Returns true if the event at a position was corrected.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn is_corrected(&mut self, at: Position) -> Result<bool, Error> {
        let query = sqlx::query_scalar(IS_CORRECTED).bind(bigint(at));
        Ok(query.fetch_one(self.connection()).await?)
    }
}

/// Writes that an event has no effect from another's position on. `named`: it is the event that the other names, and not an earlier
/// correction of that.
pub(crate) async fn write(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
    named: bool,
) -> Result<(), Error> {
    sqlx::query(WRITE).bind(bigint(corrected)).bind(bigint(from)).bind(named).execute(connection).await?;
    Ok(())
}
