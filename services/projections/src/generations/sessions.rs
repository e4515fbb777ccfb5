//! Sessions of browsers.
//!
//! They are stored beside the generations: a session is no event of the ledger, and ends after hours.

use chrono::{DateTime, Utc};

use crate::Projections;
use crate::postgres::{Error, parsed};
use crate::sql::sql;

/// Session of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Authority that authenticated the principal.
    pub issuer: String,
    /// Identifier that the issuer gives to no other principal.
    pub subject: String,
    /// The whole principal, as JSON.
    pub principal: String,
    /// SHA-256 of the API token with which the session began; `None` for a session that began otherwise.
    pub token_hash: Option<[u8; 32]>,
    /// Time at which it began.
    pub began_at: DateTime<Utc>,
    /// Time at which it ends.
    pub ends_at: DateTime<Utc>,
}

/// Columns of a session, in the order of [`SessionRecord`].
type SessionRow = (String, String, String, Option<Vec<u8>>, DateTime<Utc>, DateTime<Utc>);

fn record(row: SessionRow) -> Result<SessionRecord, Error> {
    let (issuer, subject, principal, token_hash, began_at, ends_at) = row;
    let token_hash = match token_hash {
        None => None,
        Some(bytes) => Some(parsed("sessions", &subject, || {
            <[u8; 32]>::try_from(bytes).map_err(|_| "token_hash does not have 32 bytes")
        })?),
    };
    Ok(SessionRecord { issuer, subject, principal, token_hash, began_at, ends_at })
}

impl Projections {
    /// Begins the session whose secret has a hash. Removes the oldest sessions of the principal beyond `limit`, and some
    /// of the sessions that have ended when it begins.
    ///
    /// # Errors
    /// The database does not answer; the session may have begun nevertheless.
    pub async fn begin_session(
        &self,
        hash: &[u8; 32],
        session: &SessionRecord,
        limit: u32,
    ) -> Result<(), Error> {
        let query = sqlx::query(sql!("sessions/begin"))
            .bind(hash.as_slice())
            .bind(session.issuer.as_str())
            .bind(session.subject.as_str())
            .bind(session.principal.as_str())
            .bind(session.token_hash.as_ref().map(<[u8; 32]>::as_slice))
            .bind(session.began_at)
            .bind(session.ends_at)
            .bind(i64::from(limit.saturating_sub(1)));
        query.execute(&self.pool()?).await?;
        Ok(())
    }

    /// Returns the session whose secret has a hash; `None` if there is none, or it has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn find_session(
        &self,
        hash: &[u8; 32],
        now: DateTime<Utc>,
    ) -> Result<Option<SessionRecord>, Error> {
        let query = sqlx::query_as(sql!("sessions/find")).bind(hash.as_slice()).bind(now);
        let row: Option<SessionRow> = query.fetch_optional(&self.pool()?).await?;
        row.map(record).transpose()
    }

    /// Ends the session whose secret has a hash. Returns false if there is none.
    ///
    /// # Errors
    /// The database does not answer; the session may have ended nevertheless.
    pub async fn end_session(&self, hash: &[u8; 32]) -> Result<bool, Error> {
        let ended = sqlx::query(sql!("sessions/end")).bind(hash.as_slice()).execute(&self.pool()?).await?;
        Ok(ended.rows_affected() > 0)
    }
}
