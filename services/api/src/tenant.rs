//! The ledger of a request.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::access::Tenancy;
use crate::budget::Share;
use crate::entry_feed::EntryFeeds;
use crate::limits::in_time;
use crate::problem::{Kind, Problem};
use crate::{App, Ledger};

/// The ledger of a request's tenant.
pub(crate) struct TenantLedger {
    app: Arc<App>,
    ledger: Arc<Ledger>,
    tenancy: Tenancy,
}

impl Deref for TenantLedger {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl TenantLedger {
    pub(crate) const fn new(app: Arc<App>, ledger: Arc<Ledger>, tenancy: Tenancy) -> Self {
        Self { app, ledger, tenancy }
    }

    /// Returns the same ledger for another sender in the tenant.
    pub(crate) fn with_tenancy(&self, tenancy: Tenancy) -> Self {
        Self::new(Arc::clone(&self.app), Arc::clone(&self.ledger), tenancy)
    }

    pub(crate) const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Returns the tenant and the sender of the request.
    pub(crate) const fn tenancy(&self) -> &Tenancy {
        &self.tenancy
    }

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

    /// Returns the feeds of entries.
    pub(crate) fn entry_feeds(&self) -> &Arc<EntryFeeds> {
        &self.app.bounds.entry_feeds
    }

    /// Returns a share of the budget of answers.
    pub(crate) fn answer_share(&self) -> Share {
        self.app.bounds.answers.share()
    }

    /// Returns the token that is cancelled at shutdown, and when the tenant is retired.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }
}
