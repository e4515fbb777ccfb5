//! The ledger of a request.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_domain::access::Verb;
use ledger_domain::{EnvironmentName, Position, ServiceName};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::access::Tenancy;
use crate::budget::Share;
use crate::entry_feed::EntryFeeds;
use crate::limits::in_time;
use crate::problem::{Kind, Problem};
use crate::read_log::MAX_PAGE_ENTRIES;
use crate::request_stats::Shown;
use crate::{App, Ledger};

/// Environment and service of a question about the history; `None`: all of them.
pub(crate) type LaneNames<'n> = (Option<&'n EnvironmentName>, Option<&'n ServiceName>);

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

    /// Records an answer with entries of the history for auditors. Call it before the answer is sent: one with more entries
    /// than a page is an export.
    ///
    /// # Errors
    /// An export cannot be recorded, or the sender may not have one.
    pub(crate) async fn record_answer(&self, lane: LaneNames<'_>, shown: Shown) -> Result<(), Problem> {
        self.record_read(lane, shown, shown.entries() > MAX_PAGE_ENTRIES).await
    }

    /// Records a stream of entries for auditors. Call it before the stream is sent: one that begins more entries before the
    /// end of the history than a page has is an export.
    ///
    /// # Errors
    /// An export cannot be recorded, or the sender may not have one.
    pub(crate) async fn record_stream(
        &self,
        lane: LaneNames<'_>,
        after: Position,
        end: Position,
    ) -> Result<(), Problem> {
        let is_export = end.get().saturating_sub(after.get()) > MAX_PAGE_ENTRIES;
        self.record_read(lane, Shown::default(), is_export).await?;
        // A live stream may last for weeks: record it when it begins, too.
        if !is_export
            && let Some(log) = &self.app.read_log
            && let Some(record) = self.tenancy.stats().begun_read(Shown::default())
        {
            log.add(record);
        }
        Ok(())
    }

    async fn record_read(&self, lane: LaneNames<'_>, shown: Shown, is_export: bool) -> Result<(), Problem> {
        let stats = self.tenancy.stats();
        if let (Some(log), Some(reader)) = (&self.app.read_log, self.tenancy.sender()) {
            if is_export && log.exports_need_grant() {
                let (environment, service) = lane;
                self.tenancy.check_history(Verb::Export, environment, service)?;
            }
            stats.begin_read(Arc::clone(reader), is_export, log.now());
            if is_export && let Some(record) = stats.begun_read(shown) {
                log.store_export(record).await?;
            }
        }
        stats.add_entries(shown);
        Ok(())
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
