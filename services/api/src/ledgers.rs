//! Ledgers of the tenants that a process serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Cancelled when the service stops, or the tenant is retired: closes streams.
    pub closing: CancellationToken,
    /// True for a tenant of the settings. The process is not ready before its ledger is.
    pub is_of_settings: bool,
}

/// Ledgers by tenant.
pub type LedgerMap = BTreeMap<TenantName, Arc<Ledger>>;

/// Ledgers of the tenants that a process serves. Tenants are added and removed while it runs; clones share them.
///
/// Invariant: a request keeps the ledger that it began with. Nothing is queued for a ledger that was removed.
#[derive(Clone, Default)]
pub struct Ledgers {
    map: Arc<RwLock<Arc<LedgerMap>>>,
    /// Tenants whose ledgers were removed and not added again.
    retired: Arc<RwLock<BTreeSet<TenantName>>>,
    is_complete: Arc<AtomicBool>,
}

impl Ledgers {
    /// Returns the ledgers of now.
    #[must_use]
    pub fn all(&self) -> Arc<LedgerMap> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the ledger of a tenant; `None` if the process does not serve it.
    #[must_use]
    pub fn get(&self, tenant: &TenantName) -> Option<Arc<Ledger>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Records that the tenants which were created before the start are served, too, as far as their ledgers can be opened.
    pub fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }

    /// Returns true after [`Self::set_complete`].
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Returns the tenants whose ledgers were removed and not added again.
    pub(crate) fn retired(&self) -> BTreeSet<TenantName> {
        self.retired.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the ledger of a tenant.
    pub fn insert(&self, tenant: TenantName, ledger: Ledger) {
        self.retired.write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        let mut ledgers = self.map.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut ledgers).insert(tenant, Arc::new(ledger));
    }

    /// Removes the ledger of a retired tenant. Requests in progress record nothing more in it, and its streams are closed.
    pub fn remove(&self, tenant: &TenantName) {
        self.retired.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone());
        let mut ledgers = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(removed) = Arc::make_mut(&mut ledgers).remove(tenant) {
            removed.ingest.retire();
            removed.closing.cancel();
        }
    }
}
