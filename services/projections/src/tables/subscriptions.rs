//! Subscriptions: the webhooks to which entries are delivered.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Payload, Subscription};
use ledger_domain::{LongText, Position, SubscriptionName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::events::EventFilter;

/// Subscription that is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Its present settings.
    pub subscription: Subscription,
    /// Position of the event that created it.
    pub created_position: Position,
    /// Position of the event that stated its present settings.
    pub settings_position: Position,
    /// Time at which that event was recorded.
    pub settings_recorded_at: DateTime<Utc>,
    /// The end of its deliveries, if the service gave them up.
    pub disabled: Option<Disabled>,
    /// Position up to which it was delivered when it was last disabled.
    pub delivered_position: Option<Position>,
}

/// End of the deliveries of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Position of the event that records it.
    pub position: Position,
    /// Reason.
    pub reason: Option<LongText>,
}

impl SubscriptionRow {
    /// Returns the name of the follower whose position is that of the deliveries. A subscription that is created after one
    /// of the same name was removed has another.
    #[must_use]
    pub fn follower(&self) -> String {
        format!("webhook/{}@{}", self.subscription.name, self.created_position)
    }

    /// Returns the position after which deliveries begin that have no position of their own.
    #[must_use]
    pub fn start(&self) -> Position {
        self.delivered_position
            .map_or(self.created_position, |delivered| delivered.max(self.created_position))
    }

    /// Returns the filter of the entries that are delivered.
    #[must_use]
    pub fn event_filter(&self) -> EventFilter {
        let filter = &self.subscription.filter;
        EventFilter {
            environment: filter.environment.clone(),
            service: filter.service.clone(),
            kinds: filter.types.clone(),
            ..EventFilter::default()
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    created_position: i64,
    settings_position: i64,
    disabled_position: Option<i64>,
    delivered_position: Option<i64>,
    recorded_at: DateTime<Utc>,
    bytes: Vec<u8>,
    disabling: Option<Vec<u8>>,
}

impl Row {
    fn subscription(self) -> Result<SubscriptionRow, Error> {
        let at = self.settings_position;
        let envelope = parsed("events", at, || Envelope::stored(self.bytes.into()))?;
        let subscription = match &envelope.event().payload {
            Payload::SubscriptionCreated(subscription) => Subscription::clone(subscription),
            other => parsed("subscriptions", at, || {
                Err(format!("expected subscription.created, found {}", other.kind()))
            })?,
        };
        let disabled = match (self.disabled_position, self.disabling) {
            (Some(at), Some(bytes)) => {
                let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
                Some(Disabled { position: position(at), reason: envelope.event().reason.clone() })
            }
            _ => None,
        };
        Ok(SubscriptionRow {
            subscription,
            created_position: position(self.created_position),
            settings_position: position(at),
            settings_recorded_at: self.recorded_at,
            disabled,
            delivered_position: self.delivered_position.map(position),
        })
    }
}

impl Snapshot {
    /// Returns the subscriptions that are not removed, ordered by name.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn subscriptions(&mut self) -> Result<Vec<SubscriptionRow>, Error> {
        let rows: Vec<Row> = sqlx::query_as(sql!("subscriptions/list")).fetch_all(self.connection()).await?;
        rows.into_iter().map(Row::subscription).collect()
    }

    /// Returns the subscription with a name, unless it is removed.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn subscription(&mut self, name: &SubscriptionName) -> Result<Option<SubscriptionRow>, Error> {
        let query = sqlx::query_as(sql!("subscriptions/by_name")).bind(name.as_str());
        let row: Option<Row> = query.fetch_optional(self.connection()).await?;
        row.map(Row::subscription).transpose()
    }
}

/// Applies an event of a subscription, if the payload is one.
pub(crate) async fn write(
    connection: &mut PgConnection,
    payload: &Payload,
    at: Position,
) -> Result<(), Error> {
    let query = match payload {
        Payload::SubscriptionCreated(subscription) => {
            sqlx::query(sql!("subscriptions/put")).bind(subscription.name.as_str()).bind(bigint(at))
        }
        Payload::SubscriptionRemoved(name) => sqlx::query(sql!("subscriptions/remove")).bind(name.as_str()),
        Payload::SubscriptionDisabled(disabling) => sqlx::query(sql!("subscriptions/disable"))
            .bind(disabling.name.as_str())
            .bind(bigint(disabling.settings_position))
            .bind(bigint(at))
            .bind(bigint(disabling.delivered_position)),
        _ => return Ok(()),
    };
    query.execute(connection).await?;
    Ok(())
}
