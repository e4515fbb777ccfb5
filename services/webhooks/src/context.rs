//! Shared parts of the deliveries of a process, and of those of a tenant.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_adapters::hooks::SigningSecret;
use ledger_domain::{SecretName, TenantName};
use ledger_ingest::Ingest;
use ledger_projections::{EventRow, Projections, Purpose};
use tokio::sync::Semaphore;

use crate::backoff::Backoff;
use crate::sender::{Sender, SetupError};
use crate::settings::Settings;

/// Returns the body of an entry, as the API writes it.
pub type Render = fn(EventRow) -> Result<Vec<u8>, String>;

/// Shared parts of the deliveries of all tenants of a process.
pub struct Deliveries {
    pub(crate) sender: Sender,
    /// Permits of deliveries at the same time.
    pub(crate) permits: Arc<Semaphore>,
    /// Maximum number of deliveries of one tenant at the same time: half, so that slow receivers of one leave the other
    /// half.
    permits_of_tenant: usize,
    pub(crate) backoff: Backoff,
    pub(crate) give_up_after: std::time::Duration,
    pub(crate) render: Render,
    pub(crate) clock: fn() -> DateTime<Utc>,
}

impl Deliveries {
    /// Creates the HTTP client. Connects to nothing.
    ///
    /// # Errors
    /// The client cannot be created.
    pub fn new(
        settings: &Settings,
        render: Render,
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Self, SetupError> {
        let permits = settings.parallel_deliveries.clamp(1, 10_000);
        Ok(Self {
            sender: Sender::new(settings)?,
            permits: Arc::new(Semaphore::new(permits)),
            permits_of_tenant: permits.div_ceil(2),
            backoff: Backoff { first: settings.first_delay, longest: settings.longest_delay },
            give_up_after: settings.give_up_after,
            render,
            clock,
        })
    }
}

/// A tenant whose entries are delivered.
pub struct Subscriber {
    /// Tenant.
    pub tenant: TenantName,
    /// Read models of its ledger.
    pub projections: Projections,
    /// Write path of its ledger.
    pub ingest: Ingest,
    /// Signing secrets that its subscriptions may name. Two of one name sign each delivery twice, while the receiver
    /// replaces one by the other.
    pub secrets: BTreeMap<SecretName, Vec<SigningSecret>>,
}

/// A tenant with what all tenants share.
pub(crate) struct Context {
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) subscriber: Subscriber,
    /// Permits of deliveries of the tenant at the same time.
    pub(crate) permits: Arc<Semaphore>,
    /// The projections by connections that queries of clients do not take: for the lease, the positions and the attempts.
    pub(crate) records: Projections,
}

impl Context {
    pub(crate) fn new(deliveries: Arc<Deliveries>, subscriber: Subscriber) -> Self {
        let permits = Arc::new(Semaphore::new(deliveries.permits_of_tenant));
        let records = subscriber.projections.for_purpose(Purpose::Recording);
        Self { deliveries, subscriber, permits, records }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.deliveries.clock)()
    }

    pub(crate) const fn projections(&self) -> &Projections {
        &self.subscriber.projections
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}
