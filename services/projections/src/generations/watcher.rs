//! Activates the live generation for processes and handles that only query.

use std::time::Duration;

use ledger_domain::{TenantName, error_chain};
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::generations::registry::{GenerationState, Worker};
use crate::postgres::{Error, Projections};
use crate::projector::pipeline::close;

/// Interval at which the generation registry is polled.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Timeout of one pass over the generation registry.
pub(crate) const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the live generation active for handles without a projector, such as those of a streaming replica.
pub struct GenerationWatcher {
    projections: Vec<Projections>,
    changes: mpsc::UnboundedReceiver<WatchChange>,
}

enum WatchChange {
    Added(Box<Projections>),
    Removed(TenantName),
}

/// Adds and removes tenants while a [`GenerationWatcher`] runs.
#[derive(Clone)]
pub struct WatchedTenants(mpsc::UnboundedSender<WatchChange>);

impl WatchedTenants {
    /// Adds a tenant's projections, which are in the database of the others.
    pub fn add(&self, projections: Projections) {
        // A watcher that has stopped needs no changes.
        let _ = self.0.send(WatchChange::Added(Box::new(projections)));
    }

    /// Removes a tenant.
    pub fn remove(&self, tenant: &TenantName) {
        let _ = self.0.send(WatchChange::Removed(tenant.clone()));
    }
}

impl GenerationWatcher {
    /// Creates a watcher of some tenants' projections, all in one database, and the handle that adds and removes tenants.
    #[must_use]
    pub fn new(projections: Vec<Projections>) -> (Self, WatchedTenants) {
        let (sender, changes) = mpsc::unbounded_channel();
        (Self { projections, changes }, WatchedTenants(sender))
    }

    fn apply_changes(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            match change {
                WatchChange::Added(projections) => self.projections.push(*projections),
                WatchChange::Removed(tenant) => {
                    let removed = self.projections.extract_if(.., |projections| projections.tenant == tenant);
                    removed.for_each(|projections| projections.deactivate("the tenant was retired"));
                }
            }
        }
    }

    /// Activates the live generations, and follows switches, until the token is cancelled.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let mut connection = None;
        loop {
            self.apply_changes();
            let ticked = tokio::time::timeout(REGISTRY_TIMEOUT, self.tick(&mut connection)).await;
            let reason = match ticked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error_chain(&error)),
                Err(_) => Some(format!("the database did not respond within {REGISTRY_TIMEOUT:?}")),
            };
            if let Some(reason) = reason {
                connection = None;
                for projections in self.projections.iter().filter(|projections| !projections.is_ready()) {
                    projections.deactivate(&reason);
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    async fn tick(&self, connection: &mut Option<PgConnection>) -> Result<(), Error> {
        let Some(first) = self.projections.first() else { return Ok(()) };
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(first.database().connect().await?),
        };
        activate_live_of(connection, &self.projections).await
    }
}

/// Activates the live generations of some tenants.
async fn activate_live_of(connection: &mut PgConnection, all: &[Projections]) -> Result<(), Error> {
    let Some(first) = all.first() else { return Ok(()) };
    let tenants: Vec<String> = all.iter().map(|projections| projections.tenant.to_string()).collect();
    let version = first.database().schema_version.version;
    let reader = Worker { id: Uuid::nil(), version };
    let generations = reader.list_generations(connection, &tenants, Duration::ZERO).await?;
    let live = generations.iter().filter(|it| it.state == GenerationState::Live);
    for projections in all {
        match live.clone().find(|it| it.tenant == projections.tenant.as_str()) {
            Some(live) => projections.activate(live.number),
            None => projections.deactivate("no generation is live"),
        }
    }
    Ok(())
}

impl Projections {
    /// Activates the live generation once, for callers without a [`ProjectionSupervisor`](crate::ProjectionSupervisor).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn activate_live(&self) -> Result<(), Error> {
        self.database().migrate_registry().await?;
        let mut connection = self.database().connect().await?;
        activate_live_of(&mut connection, std::slice::from_ref(self)).await?;
        close(connection).await;
        Ok(())
    }
}
