//! Whose ledger a request is about: the tenant of its path, or `default`.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use ledger_domain::TenantName;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::problem::{Kind, Problem};
use crate::{App, Ledger};

/// The ledger of the request's tenant. It is served by this service, or there is no such value.
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
    /// The time now.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Room for a question that reads a whole history, if there is any now.
    pub(crate) fn long_question(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let full =
            |_| Problem::new(Kind::Busy, "others are reading whole histories: ask again when they are done");
        self.app.long_questions.try_acquire().map_err(full)
    }

    /// Cancelled when the service ends.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.app.ending.clone()
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
            return Err(Problem::new(Kind::UnknownTenant, format!("there is no tenant {tenant}")));
        }
        Ok(Self { app: Arc::clone(app), tenant })
    }
}
