//! Ledgers of the tenants that a process serves.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use ledger_domain::TenantName;
use ledger_ingest::Ingest;
use ledger_journal::{Quarantine, SharedJournal};
use ledger_projections::Projections;
use tokio_util::sync::CancellationToken;

/// Handles of one tenant's ledger.
pub struct Ledger {
    /// Write path: records events and rollback requests.
    pub ingest: Ingest,
    /// Read models that answer queries.
    pub projections: Projections,
    /// Stream of entries.
    pub journal: SharedJournal,
    /// Messages that could not be understood.
    pub quarantine: Arc<Quarantine>,
    /// Returns the current time.
    pub clock: fn() -> DateTime<Utc>,
    /// Cancelled when the service stops, or the tenant is retired: ends responses that have no end of their own.
    pub closing: CancellationToken,
}

/// Ledgers by tenant.
pub type LedgerMap = BTreeMap<TenantName, Arc<Ledger>>;

/// Ledgers of the tenants that a process serves. Tenants are added and removed while it runs; clones share them.
///
/// Invariant: a request keeps the ledger that it began with.
#[derive(Clone, Default)]
pub struct Ledgers(Arc<RwLock<Arc<LedgerMap>>>);

impl Ledgers {
    /// Returns the ledgers of now.
    #[must_use]
    pub fn all(&self) -> Arc<LedgerMap> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the ledger of a tenant; `None` if the process does not serve it.
    #[must_use]
    pub fn get(&self, tenant: &TenantName) -> Option<Arc<Ledger>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Adds the ledger of a tenant.
    pub fn insert(&self, tenant: TenantName, ledger: Ledger) {
        let mut ledgers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut ledgers).insert(tenant, Arc::new(ledger));
    }

    /// Removes the ledger of a tenant, and ends its responses that have no end of their own.
    pub fn remove(&self, tenant: &TenantName) {
        let mut ledgers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(removed) = Arc::make_mut(&mut ledgers).remove(tenant) {
            removed.closing.cancel();
        }
    }
}
