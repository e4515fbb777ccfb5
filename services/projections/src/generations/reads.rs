//! Log of the reads of the histories.
//!
//! It is stored beside the generations: a read is no event of the ledger, and is kept for a limited time.

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use uuid::Uuid;

use crate::Projections;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;

/// Read of the history of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// Identifier, of version 7: its order is that of the requests.
    pub id: Uuid,
    /// Time at which the request was admitted.
    pub began_at: DateTime<Utc>,
    /// Time at which the answer ended; `None`: it is being sent, or the process ended first.
    pub ended_at: Option<DateTime<Utc>>,
    /// Tenant whose history was read.
    pub tenant: String,
    /// Sender of the request.
    pub reader: Reader,
    /// Id of the request, as in its answer and in the access log.
    pub request_id: String,
    /// Route, as in the OpenAPI document.
    pub route: String,
    /// Query of the request, as it was sent, or its start with the length and the digest of the rest; empty without one.
    pub query: String,
    /// True for an export, which is not answered before it is recorded.
    pub is_export: bool,
    /// Status of the answer; `None` if the request ended before it.
    pub status: Option<u16>,
    /// Number of entries that the answer shows.
    pub entries: u64,
    /// The lowest and the highest position of these entries; `None` without entries.
    pub span: Option<(Position, Position)>,
}

/// Sender of a request, as it was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Type: `person`, `workload` or `local`.
    pub kind: String,
    /// Authority that authenticated it.
    pub issuer: String,
    /// Identifier that the issuer gives to no other principal.
    pub subject: String,
    /// Name as an actor.
    pub name: String,
}

/// Conditions on reads; each that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadFilter {
    /// Only reads before this one.
    pub before: Option<Uuid>,
    /// Name or subject of the sender.
    pub principal: Option<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Only reads that began at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only reads that began before this time.
    pub until: Option<DateTime<Utc>>,
    /// True: only exports.
    pub only_exports: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    began_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    tenant: String,
    principal_kind: String,
    principal_issuer: String,
    principal_subject: String,
    principal_name: String,
    request_id: String,
    route: String,
    query: String,
    is_export: bool,
    status: Option<i32>,
    entries: i64,
    first_position: Option<i64>,
    last_position: Option<i64>,
}

impl Row {
    fn into_record(self) -> Result<ReadRecord, Error> {
        let status = self.status.map(|status| parsed("reads", self.id, || u16::try_from(status)));
        Ok(ReadRecord {
            id: self.id,
            began_at: self.began_at,
            ended_at: self.ended_at,
            tenant: self.tenant,
            reader: Reader {
                kind: self.principal_kind,
                issuer: self.principal_issuer,
                subject: self.principal_subject,
                name: self.principal_name,
            },
            request_id: self.request_id,
            route: self.route,
            query: self.query,
            is_export: self.is_export,
            status: status.transpose()?,
            entries: parsed("reads", self.id, || u64::try_from(self.entries))?,
            span: self
                .first_position
                .zip(self.last_position)
                .map(|(first, last)| (position(first), position(last))),
        })
    }
}

/// Returns a column of the records, for a bulk insert.
fn column<'r, T>(records: &'r [ReadRecord], value: impl Fn(&'r ReadRecord) -> T) -> Vec<T> {
    records.iter().map(value).collect()
}

impl Projections {
    /// Records reads with one statement. A read that is recorded already gets the end that the record states, if any. The
    /// ids must differ.
    ///
    /// # Errors
    /// The database does not answer; the reads may be recorded nevertheless.
    pub async fn record_reads(&self, records: &[ReadRecord]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(sql!("reads/record"))
            .bind(column(records, |it| it.id))
            .bind(column(records, |it| it.began_at))
            .bind(column(records, |it| it.ended_at))
            .bind(column(records, |it| it.tenant.as_str()))
            .bind(column(records, |it| it.reader.kind.as_str()))
            .bind(column(records, |it| it.reader.issuer.as_str()))
            .bind(column(records, |it| it.reader.subject.as_str()))
            .bind(column(records, |it| it.reader.name.as_str()))
            .bind(column(records, |it| it.request_id.as_str()))
            .bind(column(records, |it| it.route.as_str()))
            .bind(column(records, |it| it.query.as_str()))
            .bind(column(records, |it| it.is_export))
            .bind(column(records, |it| it.status.map(i32::from)))
            .bind(column(records, |it| i64::try_from(it.entries).unwrap_or(i64::MAX)))
            .bind(column(records, |it| it.span.map(|(first, _)| bigint(first))))
            .bind(column(records, |it| it.span.map(|(_, last)| bigint(last))));
        query.execute(&self.pool()?).await?;
        Ok(())
    }

    /// Returns the latest reads that meet the conditions, latest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reads(&self, filter: &ReadFilter, limit: u32) -> Result<Vec<ReadRecord>, Error> {
        let query = sqlx::query_as(sql!("reads/list"))
            .bind(filter.before)
            .bind(filter.principal.as_deref())
            .bind(filter.tenant.as_deref())
            .bind(filter.since)
            .bind(filter.until)
            .bind(filter.only_exports)
            .bind(i64::from(limit));
        let rows: Vec<Row> = query.fetch_all(&self.pool()?).await?;
        rows.into_iter().map(Row::into_record).collect()
    }

    /// Forgets at most `limit` reads that began before a time. Returns their number.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_old_reads(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, Error> {
        let query = sqlx::query(sql!("reads/forget_old")).bind(before).bind(i64::from(limit));
        Ok(query.execute(&self.pool()?).await?.rows_affected())
    }

    /// Forgets at most `limit` of the oldest reads beyond the newest `keep`. Returns their number.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_excess_reads(&self, keep: u32, limit: u32) -> Result<u64, Error> {
        let query = sqlx::query(sql!("reads/forget_excess")).bind(i64::from(keep)).bind(i64::from(limit));
        Ok(query.execute(&self.pool()?).await?.rows_affected())
    }
}
