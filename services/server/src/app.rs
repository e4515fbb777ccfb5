//! The service: builds its parts from the settings, serves, and shuts down in order.
//!
//! Shutdown order: stop accepting requests and messages, and complete those in progress; stop the rollback controllers and
//! the deliveries to webhooks; let ingest append what it accepted; let the projectors finish their batch and release the
//! projections to other processes; close the connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ledger_api::{AccessFollower, Bounds, BrokerReceiver, Limits, MAX_HISTORY_SCANS, Rates, Tls};
use ledger_client::{clock, identity};
use ledger_domain::TenantName;
use ledger_journal::jetstream::Connection;
use ledger_journal::{Quarantine, SharedJournal};
use ledger_projections::{GenerationWatcher, ProjectionSupervisor, Projections};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, Role};
use crate::descriptors;
use crate::kafka::{self, Kafka};
use crate::metric_catalog;
use crate::nats;
use crate::reload;
pub use crate::start_error::Error;
pub use crate::tenants::JournalOpener;
use crate::tenants::{OpenLedger, Stops, Tasks, Tenants, authenticator, close_pools, join};

/// Time limit of the requests in progress at shutdown. Process supervisors usually wait 30 seconds before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limits after that for each stage of background tasks: those that record, ingest, and the projectors. A stage that
/// takes too long does not take the time of the next one.
const STOP_TIMEOUTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(2), Duration::from_secs(2)];
/// Time limit for closing the connections to Postgres at the end. All limits together are below 30 seconds.
const POOLS_TIMEOUT: Duration = Duration::from_millis(500);

/// Upper bounds of the histogram buckets, in seconds.
const HISTOGRAM_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Service that is ready to serve.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    stops: Stops,
    /// Opens and closes the ledgers of tenants. Ends with the tasks that have to stop.
    tenants: JoinHandle<Tasks>,
    /// Readers of NATS, which hold handles of ingest.
    nats: Vec<JoinHandle<()>>,
    /// Projections of the tenants of the settings on the primary.
    primaries: BTreeMap<TenantName, Projections>,
    receiver: BrokerReceiver,
    /// Consumers and followers of Kafka. They stop with the streams.
    kafka: kafka::Tasks,
    background_tasks: Vec<JoinHandle<()>>,
}

/// Starts the tasks that keep the projections and the certificate up to date.
fn start_background_tasks(
    supervisor: ProjectionSupervisor,
    watcher: GenerationWatcher,
    tls: Option<Tls>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![tokio::spawn(supervisor.run(stop.clone())), tokio::spawn(watcher.run(stop.clone()))];
    tasks.extend(tls.map(|tls| tokio::spawn(reload::run(tls, stop.clone()))));
    tasks
}

/// Starts the task that stores the log of reads, if there is one.
fn store_reads(app: &ledger_api::App, stop: &CancellationToken) -> Option<JoinHandle<()>> {
    Some(tokio::spawn(Arc::clone(app.read_log.as_ref()?).run(stop.clone())))
}

/// Starts the task that follows tokens and grants, if clients need credentials.
fn follow_access(app: &ledger_api::App, stop: &CancellationToken) -> Option<JoinHandle<()>> {
    let authenticator = authenticator(&app.authentication)?;
    let journal = Arc::clone(&app.ledgers.get(&TenantName::admin())?.journal);
    let follower = AccessFollower::new(authenticator, journal);
    Some(tokio::spawn(follower.run(stop.clone())))
}

/// Returns the number of descriptors that the process needs beside those of its clients: its connections to Postgres,
/// to receivers of webhooks and to NATS, and some for files, timers and sockets of its runtime.
fn own_descriptors(config: &Config) -> usize {
    /// Connections of a tenant's projectors and lookups.
    const OF_A_TENANT: usize = 8;
    /// Of the process.
    const OF_THE_PROCESS: usize = 64;
    let pools = if config.projections.read_settings().is_some() { 2 } else { 1 };
    let of_a_tenant = pools * config.projections.connections as usize + OF_A_TENANT;
    OF_THE_PROCESS + config.webhooks.connections() + config.max_ledgers() * of_a_tenant
}

/// Returns the limits of the settings, with as many connections as the process may have.
fn limits(config: &Config) -> Limits {
    let connections = descriptors::reserve(config.http.max_connections, own_descriptors(config));
    Limits { connections, ..config.http.limits() }
}

/// Returns the router of the roles of the process.
fn router(config: &Config, app: Arc<ledger_api::App>) -> Router {
    if config.roles.contains(&Role::Http) { ledger_api::router(app) } else { ledger_api::health_router(app) }
}

/// Listens on an address. Returns it with its port.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listen_error = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    Ok((listener, address))
}

impl App {
    /// Connects, opens the ledger of every tenant, and listens.
    ///
    /// # Errors
    /// Names the part that cannot be opened.
    pub async fn build(config: &Config) -> Result<Self, Error> {
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), HISTOGRAM_BUCKETS)?
            .install_recorder()?;
        metric_catalog::register(&config.ledgers());
        let connection = Connection::open(config.journal.settings()).await?;
        let open_journal: JournalOpener = Arc::new(move |tenant: TenantName| {
            let connection = connection.clone();
            Box::pin(async move {
                let quarantine = Quarantine::JetStream(Box::new(connection.quarantine(&tenant)));
                let journal: SharedJournal = Arc::new(connection.journal(tenant).await?);
                Ok((journal, Arc::new(quarantine)))
            })
        });
        let mut app = Self::with_journals(config, metrics, open_journal).await?;
        app.start_nats(config).await?;
        Ok(app)
    }

    /// Starts the exchange of messages with NATS. A process without the role `http` has none.
    async fn start_nats(&mut self, config: &Config) -> Result<(), Error> {
        if config.roles.contains(&Role::Http) {
            let receiver = Arc::new(self.receiver.clone());
            self.nats = nats::start(config, receiver, &self.primaries, &self.stops.recorders).await?;
        }
        Ok(())
    }

    /// Opens a ledger over the journal of each tenant, and listens. `metrics` renders `/metrics`.
    ///
    /// # Errors
    /// Names the part that cannot be opened.
    pub async fn with_journals(
        config: &Config,
        metrics: PrometheusHandle,
        open_journal: JournalOpener,
    ) -> Result<Self, Error> {
        let tls = config.http.tls().map(Tls::open).transpose()?;
        let stops = Stops::default();
        let mut tenants = Tenants::new(config, open_journal, &stops)?;
        let opened = tenants.open_all().await?;
        let (process, runs_projectors) = (identity::process(), config.roles.contains(&Role::Projector));
        let supervisor_config = config.projections.supervisor_config(process, runs_projectors);
        let supervised = opened.iter().map(OpenLedger::supervised).collect();
        let mut supervisor = ProjectionSupervisor::new(supervisor_config, supervised);
        // Check that the journal matches the projections before ingest opens. If the database is unavailable, ingest
        // opens anyway.
        supervisor.reconcile_once().await;
        let replicas = opened.iter().filter_map(|ledger| ledger.replica.clone()).collect();
        let (watcher, watched) = GenerationWatcher::new(replicas);
        let primaries: BTreeMap<_, _> =
            opened.iter().map(|ledger| (ledger.tenant.clone(), ledger.primary.clone())).collect();
        opened.into_iter().for_each(|ledger| tenants.serve(ledger));
        let supervised = supervisor.tenants();
        let mut background_tasks =
            start_background_tasks(supervisor, watcher, tls.clone(), &stops.background);
        let limits = limits(config);
        let hooks = config.hooks()?;
        let kafka = Kafka::open(config, &hooks).map_err(Error::Kafka)?;
        let authentication = config.access.authentication(&config.tenants, clock::now)?;
        let app = Arc::new(ledger_api::App {
            ledgers: tenants.ledgers(),
            metrics,
            limits,
            bounds: Bounds::new(&limits),
            pages: config.pages(&authentication, &primaries, clock::now)?,
            authentication,
            rates: Rates::new(config.limits.rates()),
            read_log: config.access.read_log(&primaries, clock::now),
            hooks,
            cdevents: config.cdevents.clone(),
            allowed_hosts: config.http.allowed_hosts.clone(),
            is_encrypted: config.http.is_encrypted(),
            checks: kafka.checks(),
            history_scans: Semaphore::new(MAX_HISTORY_SCANS),
        });
        background_tasks.extend(follow_access(&app, &stops.background));
        background_tasks.extend(store_reads(&app, &stops.background));
        let following = tenants.follow(authenticator(&app.authentication), supervised, watched);
        let tenants = tokio::spawn(following);
        let receiver = BrokerReceiver::new(Arc::clone(&app));
        let kafka = kafka.start(&app, &primaries, process, &stops.streams).map_err(Error::Kafka)?;
        let router = router(config, app);
        let (listener, address) = listen(config.http.listen).await?;
        Ok(Self {
            listener,
            address,
            tls,
            router,
            limits,
            stops,
            tenants,
            nats: Vec::new(),
            primaries,
            receiver,
            kafka,
            background_tasks,
        })
    }

    /// Returns the address on which the service listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the receiver of messages of brokers. Ingest does not stop before it is dropped.
    #[must_use]
    pub fn receiver(&self) -> BrokerReceiver {
        self.receiver.clone()
    }

    /// Serves until `shutdown` is cancelled, then shuts down in order.
    pub async fn serve(self, shutdown: CancellationToken) {
        info!(address = %self.address, tls = self.tls.is_some(), "serving");
        drop(self.receiver);
        let server = ledger_api::serve(self.listener, self.tls, self.router, self.limits, shutdown.clone());
        let stops = self.stops;
        let drain_timeout = async {
            shutdown.cancelled().await;
            info!("shutting down; completing requests in progress");
            // Responses without an end of their own, consumers and controllers hold ingest handles.
            stops.streams.cancel();
            stops.recorders.cancel();
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = server => {}
            () = drain_timeout => warn!("aborting requests that did not complete in time"),
        }
        // If no request was in progress, the server may have stopped before `drain_timeout` cancelled them.
        stops.streams.cancel();
        stops.recorders.cancel();
        let [recorders_limit, ingest_limit, projectors_limit] = STOP_TIMEOUTS;
        let recorders_end = Instant::now() + recorders_limit;
        let tenants = match timeout_at(recorders_end, self.tenants).await {
            Ok(Ok(tasks)) => tasks,
            Ok(Err(error)) => {
                warn!(%error, "the task that opens and closes ledgers failed");
                Tasks::default()
            }
            Err(_) => {
                warn!("the task that opens and closes ledgers did not stop in time");
                Tasks::default()
            }
        };
        let limit = recorders_end.saturating_duration_since(Instant::now());
        tokio::join!(
            join(self.kafka.consumers, limit, "consumers of Kafka"),
            join(self.kafka.followers, limit, "followers of Kafka"),
            join(self.nats, limit, "readers of NATS"),
            join(tenants.recorders, limit, "rollback controllers and deliveries to webhooks"),
        );
        // Ingest stops when all its handles are dropped and everything is appended. The handlers have dropped theirs.
        // A request that did not complete in time still holds one, but has nothing to append.
        join(tenants.ingests, ingest_limit, "ingest").await;
        stops.background.cancel();
        let mut background = self.background_tasks;
        background.extend(tenants.background);
        join(background, projectors_limit, "projectors").await;
        close_pools(&tenants.projections, POOLS_TIMEOUT).await;
        info!("stopped");
    }
}
