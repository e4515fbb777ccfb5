//! Emitters with clocks ahead of the ledger's: their events occurred after they were recorded.
//!
//! Recording happens after emission, so the clock is ahead by at least the measured difference.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::Position;
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, position};
use crate::sql::sql;

/// Largest difference that is attributed to measurement rather than to a wrong clock.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// Clock skew of an emitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSkew {
    /// Source of the emitter's events.
    pub source: String,
    /// Largest skew.
    pub max_ahead: TimeDelta,
    /// Skew of the last event that was ahead by more than a second.
    pub last_ahead: TimeDelta,
    /// Position of that event.
    pub last_position: Position,
    /// Number of events that were ahead by more than a second.
    pub events: u64,
}

type Row = (String, i64, i64, i64, i64);

impl From<Row> for ClockSkew {
    fn from((source, max_ahead, last_ahead, last_position, events): Row) -> Self {
        Self {
            source,
            max_ahead: TimeDelta::microseconds(max_ahead),
            last_ahead: TimeDelta::microseconds(last_ahead),
            last_position: position(last_position),
            events: events.cast_unsigned(),
        }
    }
}

impl Snapshot {
    /// Returns up to `at_most` emitters with clocks that were ahead by more than a second, largest skew first.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn clock_skews(&mut self, at_most: u32) -> Result<Vec<ClockSkew>, Error> {
        Ok(list(self.connection(), Some(at_most)).await?)
    }
}

/// Lists emitters, largest skew first. Without a limit, lists all of them.
async fn list(connection: &mut PgConnection, at_most: Option<u32>) -> Result<Vec<ClockSkew>, sqlx::Error> {
    let query = sqlx::query_as(sql!("clock_skews/list")).bind(at_most.map(i64::from));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    Ok(rows.into_iter().map(ClockSkew::from).collect())
}

/// In-memory projection of clock skews, by source.
#[derive(Default)]
pub(crate) struct ClockSkewProjection {
    skews: HashMap<String, ClockSkew>,
    dirty: BTreeSet<String>,
}

impl ClockSkewProjection {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        let skews = list(connection, None).await?.into_iter().map(|skew| (skew.source.clone(), skew));
        Ok(Self { skews: skews.collect(), dirty: BTreeSet::new() })
    }

    pub(crate) fn apply(&mut self, envelope: &Envelope, at: Position, recorded_at: DateTime<Utc>) {
        let ahead = envelope.occurred_at() - recorded_at;
        if ahead <= CLOCK_TOLERANCE {
            return;
        }
        let source = envelope.identity().source.as_str().to_owned();
        let skew = self.skews.entry(source.clone()).or_insert_with(|| ClockSkew {
            source: source.clone(),
            max_ahead: TimeDelta::zero(),
            last_ahead: TimeDelta::zero(),
            last_position: at,
            events: 0,
        });
        skew.max_ahead = skew.max_ahead.max(ahead);
        skew.last_ahead = ahead;
        skew.last_position = at;
        skew.events += 1;
        self.dirty.insert(source);
    }

    pub(crate) fn take_rows(&mut self) -> Vec<ClockSkewUpsert> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().filter_map(|source| self.skews.get(source)).map(ClockSkewUpsert::new).collect()
    }
}

insert_row! {
    /// Row of `clock_skews`.
    pub(crate) struct ClockSkewUpsert => "clock_skews",
        "ON CONFLICT (source) DO UPDATE SET max_ahead = excluded.max_ahead, last_ahead = excluded.last_ahead,
            last_position = excluded.last_position, events = excluded.events"
    {
        source: String,
        max_ahead: i64,
        last_ahead: i64,
        last_position: i64,
        events: i64,
    }
}

impl ClockSkewUpsert {
    fn new(skew: &ClockSkew) -> Self {
        let microseconds = |time: TimeDelta| time.num_microseconds().unwrap_or(i64::MAX);
        Self {
            source: skew.source.clone(),
            max_ahead: microseconds(skew.max_ahead),
            last_ahead: microseconds(skew.last_ahead),
            last_position: bigint(skew.last_position),
            events: skew.events.cast_signed(),
        }
    }
}
