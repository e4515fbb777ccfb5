//! Rows that the queries for check results return.

use chrono::{DateTime, Utc};
use ledger_domain::ShortText;
use ledger_domain::known_good::{CheckResult, CheckResults};
use uuid::Uuid;

use crate::postgres::{Error, parsed, position};

#[derive(sqlx::FromRow)]
pub(super) struct SubjectEndRow {
    pub(super) subject: Uuid,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) artifact: Option<String>,
    pub(super) config: Option<String>,
    pub(super) infrastructure: Option<String>,
    pub(super) commit: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct EndRow {
    pub(super) check_name: String,
    pub(super) passed: bool,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct DeployRow {
    pub(super) index: i64,
    pub(super) slot: Option<String>,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: i64,
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) version: String,
    pub(super) artifact: Option<String>,
    pub(super) config: Option<String>,
    pub(super) infrastructure: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) deployment: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct SwitchRow {
    pub(super) index: i64,
    pub(super) switched_to: String,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) until: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
pub(super) struct SpanEndRow {
    pub(super) index: i64,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
}

#[derive(sqlx::FromRow)]
pub(super) struct CompositionEndRow {
    pub(super) composition: Vec<u8>,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
}

#[derive(sqlx::FromRow)]
pub(super) struct ReorderedEndRow {
    #[sqlx(flatten)]
    pub(super) end: EndRow,
    pub(super) started_at: Option<DateTime<Utc>>,
}

impl EndRow {
    pub(super) fn parse(&self) -> Result<(ShortText, CheckResult), Error> {
        let check = parsed("verdicts", self.position, || ShortText::stored(&self.check_name))?;
        let Self { passed, occurred_at, position: at, .. } = *self;
        Ok((check, CheckResult { passed, occurred_at, position: position(at) }))
    }

    pub(super) fn add_to(&self, results: &mut CheckResults) -> Result<(), Error> {
        let (check, result) = self.parse()?;
        results.add(check, result);
        Ok(())
    }
}
