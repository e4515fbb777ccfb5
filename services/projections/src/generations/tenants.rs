//! Changes of the tenants whose projections a process supervises.

use std::sync::Arc;

use ledger_domain::TenantName;
use ledger_journal::SharedJournal;
use tokio::sync::mpsc;

use crate::postgres::Projections;

/// A change of the tenants that a process serves.
#[derive(Clone)]
pub(crate) enum TenantChange {
    Added(Box<Projections>, SharedJournal),
    Removed(TenantName),
}

/// Adds and removes tenants while a [`ProjectionSupervisor`](crate::ProjectionSupervisor) runs.
#[derive(Debug, Clone)]
pub struct SupervisedTenants {
    supervisor: mpsc::UnboundedSender<TenantChange>,
    monitor: mpsc::UnboundedSender<TenantChange>,
}

impl SupervisedTenants {
    pub(crate) const fn new(
        supervisor: mpsc::UnboundedSender<TenantChange>,
        monitor: mpsc::UnboundedSender<TenantChange>,
    ) -> Self {
        Self { supervisor, monitor }
    }

    /// Adds a tenant's projections, which are in the database of the others.
    pub fn add(&self, projections: &Projections, journal: &SharedJournal) {
        self.send(&TenantChange::Added(Box::new(projections.clone()), Arc::clone(journal)));
    }

    /// Removes a tenant. Its projectors finish their batches, and its tables are kept.
    pub fn remove(&self, tenant: &TenantName) {
        self.send(&TenantChange::Removed(tenant.clone()));
    }

    fn send(&self, change: &TenantChange) {
        // A supervisor that has stopped needs no changes.
        let _ = self.supervisor.send(change.clone());
        let _ = self.monitor.send(change.clone());
    }
}
