//! What a request does, counted for the access log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger_domain::TenantName;

/// Counts of a request for the access log: an extension of every request. Handlers add to them.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    tenant: OnceLock<TenantName>,
    received: AtomicU64,
    recorded: AtomicU64,
    read: AtomicU64,
}

impl Activity {
    pub(crate) fn set_tenant(&self, tenant: &TenantName) {
        self.tenant.get_or_init(|| tenant.clone());
    }

    /// Returns the tenant of the request; `None` before it is known, and for requests about no tenant.
    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.get()
    }

    /// Adds events that the client sent.
    pub(crate) fn add_received(&self, events: usize) {
        self.received.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Adds entries that the request appended.
    pub(crate) fn add_recorded(&self, entries: usize) {
        self.recorded.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Adds entries, or lanes of an export, that the answer shows.
    pub(crate) fn add_reads(&self, entries: usize) {
        self.read.fetch_add(entries as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}
