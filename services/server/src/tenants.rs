//! The ledgers of the tenants: opens them, runs the parts of each in the background, and closes them.
//!
//! The tenants of the settings are opened at the start. Others are created and retired by events of the tenant `_admin`
//! while the service runs: [`Tenants::follow`] opens and closes their ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use ledger_api::{Authentication, Authenticator, Ledger, Ledgers, refresh_gauges, refresh_quarantine_gauges};
use ledger_client::{clock, identity};
use ledger_domain::TenantName;
use ledger_ingest::{Controller, Ingest};
use ledger_journal::jetstream::OpenError;
use ledger_journal::{Quarantine, SharedJournal};
use ledger_projections::{Projections, SupervisedTenants, WatchedTenants};
use ledger_webhooks::{Deliverer, Deliveries, Subscriber};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::config::{Config, Role, SigningSecrets};
use crate::metric_catalog;
use crate::start_error::Error;
use crate::stream_settings;

/// Pause after the ledger of a new tenant could not be opened.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Time limit for opening the ledger of a new tenant.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for its projections, and for the comparison of its journal with them. After it, the tenant is served all the
/// same, as those of the settings are while Postgres is away.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of each stage in which the tasks of a retired tenant stop.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the journal and the quarantine of a tenant.
pub type JournalOpener = Arc<
    dyn Fn(TenantName) -> BoxFuture<'static, Result<(SharedJournal, Arc<Quarantine>), OpenError>>
        + Send
        + Sync,
>;

/// Tokens that stop the parts of a ledger, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    /// Responses without an end of their own.
    pub(crate) streams: CancellationToken,
    /// Tasks that record events of their own: rollback controllers, deliveries to webhooks.
    pub(crate) recorders: CancellationToken,
    /// Projectors and gauges.
    pub(crate) background: CancellationToken,
}

impl Stops {
    /// Returns the tokens of one tenant, which are cancelled with these.
    fn child(&self) -> Self {
        Self {
            streams: self.streams.child_token(),
            recorders: self.recorders.child_token(),
            background: self.background.child_token(),
        }
    }
}

/// A ledger that is open and not served yet.
pub(crate) struct OpenLedger {
    pub(crate) tenant: TenantName,
    ledger: Ledger,
    /// Projections on the primary.
    pub(crate) primary: Projections,
    /// Projections on a replica, which answer queries if there is one.
    pub(crate) replica: Option<Projections>,
    ingest_task: JoinHandle<()>,
    stops: Stops,
}

impl OpenLedger {
    /// Returns what the supervisor keeps up to date.
    pub(crate) fn supervised(&self) -> (Projections, SharedJournal) {
        (self.primary.clone(), Arc::clone(&self.ledger.journal))
    }
}

/// Tasks of ledgers, by the stage in which they stop.
#[derive(Default)]
pub(crate) struct Tasks {
    pub(crate) recorders: Vec<JoinHandle<()>>,
    pub(crate) ingests: Vec<JoinHandle<()>>,
    pub(crate) background: Vec<JoinHandle<()>>,
    /// Pools that are closed at the end.
    pub(crate) projections: Vec<Projections>,
    stream_watchers: Vec<AbortOnDropHandle<()>>,
}

impl Tasks {
    fn extend(&mut self, other: Self) {
        self.recorders.extend(other.recorders);
        self.ingests.extend(other.ingests);
        self.background.extend(other.background);
        self.projections.extend(other.projections);
        self.stream_watchers.extend(other.stream_watchers);
    }

    /// Waits until the tasks of a retired tenant have stopped, and closes its pools. A request that is still in progress
    /// records nothing more; it may fail when it reads.
    async fn close(self, background: CancellationToken) {
        join(self.recorders, CLOSE_TIMEOUT, "recorders of a retired tenant").await;
        join(self.ingests, CLOSE_TIMEOUT, "ingest of a retired tenant").await;
        background.cancel();
        join(self.background, CLOSE_TIMEOUT, "gauges of a retired tenant").await;
        close_pools(&self.projections, CLOSE_TIMEOUT).await;
    }
}

/// Closes pools, all at the same time, and no longer than the limit: a pool waits for the tasks that use its connections.
pub(crate) async fn close_pools(pools: &[Projections], limit: Duration) {
    if timeout(limit, join_all(pools.iter().map(Projections::close))).await.is_err() {
        warn!("connections to Postgres are still in use, and are not closed in order");
    }
}

/// Waits for tasks that stop, all at the same time, and no longer than the limit.
pub(crate) async fn join(tasks: Vec<JoinHandle<()>>, limit: Duration, what: &'static str) {
    match timeout(limit, join_all(tasks)).await {
        Ok(ended) => {
            for error in ended.into_iter().filter_map(Result::err) {
                warn!(%error, what, "a background task failed");
            }
        }
        Err(_) => warn!(what, "background tasks did not stop in time"),
    }
}

/// Tenants whose ledgers a process serves.
pub(crate) struct Tenants {
    config: Config,
    open_journal: JournalOpener,
    /// Ledgers that requests find.
    ledgers: Ledgers,
    served: BTreeMap<TenantName, (Stops, Tasks)>,
    /// Deliveries to webhooks, if the process has them.
    deliveries: Option<Arc<Deliveries>>,
    /// Signing secrets that subscriptions may name.
    secrets: SigningSecrets,
    stops: Stops,
    /// Tasks that close the ledgers of retired tenants.
    closing: Vec<JoinHandle<()>>,
}

impl Tenants {
    /// Creates the tenants of a process, none yet.
    ///
    /// # Errors
    /// The settings of outgoing webhooks cannot be used.
    pub(crate) fn new(config: &Config, open_journal: JournalOpener, stops: &Stops) -> Result<Self, Error> {
        let deliveries = match config.roles.contains(&Role::Webhooks) {
            true => {
                let settings = config.webhooks.settings()?;
                Some(Arc::new(Deliveries::new(&settings, ledger_api::entry_json, clock::now)?))
            }
            false => None,
        };
        Ok(Self {
            open_journal,
            ledgers: Ledgers::default(),
            served: BTreeMap::new(),
            deliveries,
            secrets: config.signing_secrets()?,
            stops: stops.clone(),
            closing: Vec::new(),
            config: config.clone(),
        })
    }

    /// Returns the ledgers that requests find.
    pub(crate) fn ledgers(&self) -> Ledgers {
        self.ledgers.clone()
    }

    /// Opens the ledgers of the tenants of the settings.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub(crate) async fn open_all(&self) -> Result<Vec<OpenLedger>, Error> {
        let mut opened = Vec::new();
        for tenant in self.config.ledgers() {
            opened.push(self.open(&tenant).await?);
        }
        Ok(opened)
    }

    /// Opens the ledger of a tenant.
    ///
    /// # Errors
    /// The journal or the projections cannot be opened.
    pub(crate) async fn open(&self, tenant: &TenantName) -> Result<OpenLedger, Error> {
        let (journal, quarantine) = (self.open_journal)(tenant.clone()).await?;
        let open_error = |source| Error::Projections { tenant: tenant.clone(), source };
        let settings = self.config.projections.settings();
        let primary = Projections::new(&settings, tenant.clone()).map_err(open_error)?;
        let replica = match self.config.projections.read_settings() {
            Some(settings) => Some(primary.for_replica(&settings).map_err(open_error)?),
            None => None,
        };
        let (ingest, ingest_task) =
            Ingest::open(tenant.clone(), Arc::clone(&journal), primary.clone(), clock::now);
        let stops = self.stops.child();
        let ledger = Ledger {
            ingest,
            projections: replica.as_ref().unwrap_or(&primary).clone(),
            journal,
            quarantine,
            clock: clock::now,
            closing: stops.streams.clone(),
            is_of_settings: self.config.ledgers().contains(tenant),
        };
        Ok(OpenLedger { tenant: tenant.clone(), ledger, primary, replica, ingest_task, stops })
    }

    /// Starts the parts of a ledger that run in the background, and serves it.
    pub(crate) fn serve(&mut self, open: OpenLedger) {
        let OpenLedger { tenant, ledger, primary, replica, ingest_task, stops } = open;
        let mut tasks = Tasks { ingests: vec![ingest_task], ..Tasks::default() };
        if self.config.roles.contains(&Role::Controller) {
            let controller = Controller::new(tenant.clone(), &primary, ledger.ingest.clone());
            tasks.recorders.push(tokio::spawn(controller.run(stops.recorders.clone())));
        }
        // The tenant of tokens and grants has no subscriptions.
        if let Some(deliveries) = self.deliveries.as_ref().filter(|_| !tenant.is_admin()) {
            let subscriber = Subscriber {
                tenant: tenant.clone(),
                projections: primary.clone(),
                ingest: ledger.ingest.clone(),
                secrets: self.secrets.remove(&tenant).unwrap_or_default(),
            };
            let deliverer = Deliverer::new(deliveries, subscriber, identity::process());
            tasks.recorders.push(tokio::spawn(deliverer.run(stops.recorders.clone())));
        }
        let watcher = stream_settings::watch(tenant.clone(), Arc::clone(&ledger.journal));
        tasks.stream_watchers.push(AbortOnDropHandle::new(tokio::spawn(watcher)));
        let environments = self.config.http.metrics_environments;
        let (queried, stop) = (ledger.projections.clone(), stops.background.clone());
        let gauges = refresh_gauges(queried, environments, clock::now, stop.clone());
        let of_quarantine = refresh_quarantine_gauges(tenant.clone(), Arc::clone(&ledger.quarantine), stop);
        tasks.background.extend([tokio::spawn(gauges), tokio::spawn(of_quarantine)]);
        tasks.projections.extend([Some(primary), replica].into_iter().flatten());
        self.ledgers.insert(tenant.clone(), ledger);
        self.served.insert(tenant, (stops, tasks));
    }

    /// Opens the ledgers of tenants that are created, and closes those of tenants that are retired, until the tenants stop.
    /// Without authentication, there are only those of the settings. Returns what has to stop.
    pub(crate) async fn follow(
        mut self,
        authentication: Option<Arc<Authenticator>>,
        supervised: SupervisedTenants,
        watched: WatchedTenants,
    ) -> Tasks {
        let stop = self.stops.recorders.clone();
        match authentication {
            Some(authenticator) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.follow_directory(&authenticator, &supervised, &watched) => {}
                }
            }
            None => {
                self.ledgers.set_complete();
                stop.cancelled().await;
            }
        }
        self.into_tasks()
    }

    async fn follow_directory(
        &mut self,
        authenticator: &Authenticator,
        supervised: &SupervisedTenants,
        watched: &WatchedTenants,
    ) {
        let mut changes = authenticator.changes();
        loop {
            changes.mark_unchanged();
            let is_known = authenticator.created_tenants().is_some();
            let has_failed = self.reconcile(authenticator, supervised, watched).await;
            if is_known {
                self.ledgers.set_complete();
            }
            self.closing.retain(|task| !task.is_finished());
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(RETRY_DELAY), if has_failed => {}
            }
        }
    }

    /// Opens and closes what is due. Returns true if a ledger could not be opened.
    async fn reconcile(
        &mut self,
        authenticator: &Authenticator,
        supervised: &SupervisedTenants,
        watched: &WatchedTenants,
    ) -> bool {
        // Until the tenants have been read, none is known to be retired.
        let Some(created) = authenticator.created_tenants() else { return false };
        let of_settings = self.config.ledgers();
        let is_gone = |tenant: &&TenantName| !created.contains(*tenant) && !of_settings.contains(*tenant);
        let gone: Vec<TenantName> = self.served.keys().filter(is_gone).cloned().collect();
        for tenant in gone {
            supervised.remove(&tenant);
            watched.remove(&tenant);
            self.retire(&tenant);
        }
        let is_new =
            |tenant: &&TenantName| !of_settings.contains(tenant) && !self.served.contains_key(*tenant);
        let opening =
            created.iter().filter(is_new).map(|tenant| self.open_created(tenant, supervised, watched));
        let opened = join_all(opening).await;
        let has_failed = opened.iter().any(Option::is_none);
        opened.into_iter().flatten().for_each(|ledger| self.serve(ledger));
        has_failed
    }

    /// Opens the ledger of a tenant that was created, and waits until its journal has been compared with its projections.
    /// Returns `None` if it cannot be opened now.
    async fn open_created(
        &self,
        tenant: &TenantName,
        supervised: &SupervisedTenants,
        watched: &WatchedTenants,
    ) -> Option<OpenLedger> {
        let opened = match timeout(OPEN_TIMEOUT, self.open(tenant)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                let error = anyhow::Error::from(error);
                error!(%tenant, error = format!("{error:#}"), "cannot open the ledger of a tenant; retrying");
                return None;
            }
            Err(_) => {
                error!(%tenant, "opening the ledger of a tenant timed out; retrying");
                return None;
            }
        };
        metric_catalog::register_tenant(tenant);
        let (primary, journal) = opened.supervised();
        supervised.add(&primary, &journal);
        if let Some(replica) = &opened.replica {
            watched.add(replica.clone());
        }
        primary.wait_until_compared(COMPARE_TIMEOUT).await;
        info!(%tenant, "opened the ledger of a tenant that was created");
        Some(opened)
    }

    /// Stops serving a tenant, and closes its ledger when its requests and tasks have ended. Requests that began before
    /// record nothing more; what ingest has queued is appended.
    fn retire(&mut self, tenant: &TenantName) {
        self.ledgers.remove(tenant);
        let Some((stops, tasks)) = self.served.remove(tenant) else { return };
        stops.recorders.cancel();
        self.closing.push(tokio::spawn(tasks.close(stops.background)));
        info!(%tenant, "closed the ledger of a tenant that was retired");
    }

    /// Returns the tasks of all tenants. Their ledgers stay until the requests and the readers of brokers have ended: a
    /// message without a ledger would count as one for an unknown tenant.
    fn into_tasks(self) -> Tasks {
        let mut all = Tasks { recorders: self.closing, ..Tasks::default() };
        self.served.into_values().for_each(|(_, tasks)| all.extend(tasks));
        all
    }
}

/// Returns the authenticator, if clients need credentials.
pub(crate) fn authenticator(authentication: &Authentication) -> Option<Arc<Authenticator>> {
    match authentication {
        Authentication::Required(authenticator) => Some(Arc::clone(authenticator)),
        Authentication::Off => None,
    }
}
