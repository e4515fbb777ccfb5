//! Freezes of environments, as a list: active and past ones, with their actors and reasons.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::Actor;
use ledger_domain::{EnvironmentName, FreezePeriod, LongText, Position, ShortText};

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::expanded_sql;

/// Number of freezes in force of one environment that a list shows: those of one must not hide those of another.
const MAX_ACTIVE_OF_ENVIRONMENT: u32 = 20;

/// Freeze of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRow {
    /// Environment.
    pub environment: EnvironmentName,
    /// Name of the freeze. A later freeze of the environment may have the same name.
    pub freeze_id: ShortText,
    /// Start.
    pub started: FreezeEvent,
    /// Time at which it ends automatically; `None`: it ends only when it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// Lift, if it was lifted.
    pub lifted: Option<FreezeEvent>,
}

/// Event that started or lifted a freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeEvent {
    /// Position of the event.
    pub position: Position,
    /// Time at which it occurred.
    pub occurred_at: DateTime<Utc>,
    /// Actor, if known.
    pub actor: Option<Actor>,
    /// Reason, if one was given.
    pub reason: Option<LongText>,
}

impl FreezeEvent {
    fn new(at: i64, occurred_at: DateTime<Utc>, bytes: Vec<u8>) -> Result<Self, Error> {
        let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
        let event = envelope.event();
        let (actor, reason) = (event.actor.clone(), event.reason.clone());
        Ok(Self { position: position(at), occurred_at, actor, reason })
    }
}

impl FreezeRow {
    /// Returns true if the freeze is in force at a time.
    #[must_use]
    pub fn is_active(&self, at: DateTime<Utc>) -> bool {
        let period = FreezePeriod {
            started_at: self.started.occurred_at,
            until: self.until,
            lifted_at: self.lifted.as_ref().map(|lifted| lifted.occurred_at),
        };
        period.holds_at(at)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    freeze_id: String,
    started: i64,
    started_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
    bytes: Vec<u8>,
    lifted: Option<i64>,
    lifted_at: Option<DateTime<Utc>>,
    lift: Option<Vec<u8>>,
}

impl Row {
    fn parse(self) -> Result<FreezeRow, Error> {
        let lifted = self.lifted.zip(self.lifted_at).zip(self.lift);
        Ok(FreezeRow {
            environment: parsed("environments", &self.name, || EnvironmentName::parse(&self.name))?,
            freeze_id: parsed("freezes", self.started, || ShortText::stored(&self.freeze_id))?,
            started: FreezeEvent::new(self.started, self.started_at, self.bytes)?,
            until: self.ends_at,
            lifted: lifted.map(|((at, time), bytes)| FreezeEvent::new(at, time, bytes)).transpose()?,
        })
    }
}

impl Snapshot {
    /// Returns freezes of environments, the one that started last first: those that started before a position, at most
    /// `limit` of them. A time limits them to those in force then, the last 20 of each environment.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn freeze_list(
        &mut self,
        environments: &[EnvironmentName],
        before: Option<Position>,
        active_at: Option<DateTime<Utc>>,
        limit: u32,
    ) -> Result<Vec<FreezeRow>, Error> {
        let names: Vec<String> = environments.iter().map(ToString::to_string).collect();
        let query = sqlx::query_as(expanded_sql!("freezes/list"))
            .bind(names)
            .bind(active_at)
            .bind(before.map_or(i64::MAX, bigint))
            .bind(i64::from(limit))
            .bind(i64::from(active_at.map_or(limit, |_| MAX_ACTIVE_OF_ENVIRONMENT)));
        let rows: Vec<Row> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(Row::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_active_from_its_start_until_it_ends_or_is_lifted() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let event = |text: &str| FreezeEvent {
            position: Position::new(1),
            occurred_at: at(text),
            actor: None,
            reason: None,
        };
        let freeze = FreezeRow {
            environment: EnvironmentName::parse("dev").expect("a name"),
            freeze_id: ShortText::parse("manual").expect("a text"),
            started: event("2026-08-01T10:00:00Z"),
            until: Some(at("2026-08-01T14:00:00Z")),
            lifted: None,
        };
        let is_active =
            |freeze: &FreezeRow, time: &str| freeze.is_active(at(&format!("2026-08-01T{time}:00Z")));
        for (time, expected) in [("09:59", false), ("10:00", true), ("13:59", true), ("14:00", false)] {
            assert_eq!(is_active(&freeze, time), expected, "{time}");
        }
        let lifted = FreezeRow { lifted: Some(event("2026-08-01T12:00:00Z")), ..freeze };
        assert!(is_active(&lifted, "11:59") && !is_active(&lifted, "12:00"));
    }
}
