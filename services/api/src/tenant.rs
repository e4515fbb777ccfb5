//! Extraction of a request's ledger: the tenant named in the path, or `default`.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use ledger_domain::TenantName;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::budget::Share;
use crate::limits::in_time;
use crate::problem::{Kind, Problem};
use crate::rollback_feed::RollbackFeeds;
use crate::{App, Ledger};

/// Extractor of the ledger of the request's tenant. Invariant: `app.ledgers` contains `tenant`.
pub(crate) struct TenantLedger {
    app: Arc<App>,
    tenant: TenantName,
}

impl Deref for TenantLedger {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.app.ledgers[&self.tenant]
    }
}

impl TenantLedger {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Acquires a permit for a whole-history query, or fails at once if all are taken.
    pub(crate) fn history_scan_permit(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy = |_| Problem::new(Kind::Busy, "too many whole-history queries are running; retry later");
        self.app.history_scans.try_acquire().map_err(busy)
    }

    /// Runs a question with the time limit of questions.
    pub(crate) async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        in_time(self.app.limits.question_timeout, question).await
    }

    /// Returns the feeds of rollback entries.
    pub(crate) fn rollback_feeds(&self) -> &Arc<RollbackFeeds> {
        &self.app.bounds.rollback_feeds
    }

    /// Returns a share of the budget of answers.
    pub(crate) fn answer_share(&self) -> Share {
        self.app.bounds.answers.share()
    }

    /// Returns the token that is cancelled at shutdown.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.app.shutdown.clone()
    }
}

impl FromRequestParts<Arc<App>> for TenantLedger {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = RawPathParams::from_request_parts(parts, app).await;
        let path = path.map_err(|error| Problem::new(Kind::PathNotFound, error))?;
        let named = path.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value);
        let tenant = match named {
            Some(name) => TenantName::parse(name).map_err(|error| Problem::parameter("tenant", error))?,
            None => TenantName::default(),
        };
        if !app.ledgers.contains_key(&tenant) {
            return Err(Problem::new(Kind::UnknownTenant, format!("unknown tenant {tenant}")));
        }
        Ok(Self { app: Arc::clone(app), tenant })
    }
}
