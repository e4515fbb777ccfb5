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
use futures::future::join_all;
use ledger_access::oidc::SettingsError;
use ledger_api::{
    AccessFollower, Authentication, Bounds, BrokerReceiver, Ledger, Limits, MAX_HISTORY_SCANS, Rates, Tls,
    TlsError, refresh_gauges, refresh_quarantine_gauges,
};
use ledger_domain::TenantName;
use ledger_ingest::{Controller, Ingest};
use ledger_journal::jetstream::{Connection, OpenError};
use ledger_journal::{Quarantine, SharedJournal};
use ledger_projections::{GenerationWatcher, ProjectionSupervisor, Projections};
use ledger_webhooks::{Deliverer, Deliveries, Subscriber};
use metrics_exporter_prometheus::{BuildError as MetricsError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::{Config, HookError, Role, SigningSecrets, WebhookError};
use crate::descriptors;
use crate::kafka::{self, Kafka};
use crate::metric_catalog;
use crate::nats;
use crate::reload;
use crate::stream_settings;
use ledger_client::clock;
use ledger_client::identity;

/// Time limit of the requests in progress at shutdown. Process supervisors usually wait 30 seconds before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limits after that for each stage of background tasks: those that record, ingest, and the projectors. A stage that
/// takes too long does not take the time of the next one.
const STOP_TIMEOUTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(2), Duration::from_secs(2)];

/// Upper bounds of the histogram buckets, in seconds.
const HISTOGRAM_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Error that prevents the service from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service cannot open the journal.
    #[error("cannot open the journal")]
    Journal(#[from] OpenError),
    /// The settings of the projections are unusable.
    #[error("cannot open the projections of {tenant}")]
    Projections {
        /// Tenant of the projections.
        tenant: TenantName,
        /// Cause.
        #[source]
        source: ledger_projections::Error,
    },
    /// The service cannot listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address to listen on.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The settings of access cannot be used.
    #[error("cannot use the settings of access")]
    Access(#[from] SettingsError),
    /// A webhook cannot be used.
    #[error("cannot accept webhooks")]
    Hooks(#[from] HookError),
    /// The settings of Kafka cannot be used.
    #[error("cannot use Kafka")]
    Kafka(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The settings of outgoing webhooks cannot be used.
    #[error("cannot deliver to webhooks")]
    Webhooks(#[from] WebhookError),
    /// The HTTP client of webhooks cannot be created.
    #[error("cannot deliver to webhooks")]
    WebhookClient(#[from] ledger_webhooks::SetupError),
    /// The files of TLS are unusable.
    #[error("cannot start TLS")]
    Tls(#[from] TlsError),
    /// The metrics recorder cannot be installed.
    #[error("cannot install the metrics recorder")]
    Metrics(#[from] MetricsError),
}

/// Tenant with its journal and its quarantine.
pub type TenantJournal = (TenantName, SharedJournal, Arc<Quarantine>);

/// Service that is ready to serve.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    end_streams: CancellationToken,
    stop_controllers: CancellationToken,
    /// Rollback controllers, and readers of brokers: they hold handles of ingest.
    controllers: Vec<JoinHandle<()>>,
    primaries: BTreeMap<TenantName, Projections>,
    receiver: BrokerReceiver,
    /// Consumers and followers of Kafka. They stop when `end_streams` is cancelled.
    kafka: kafka::Tasks,
    ingests: Vec<JoinHandle<()>>,
    background_tasks: Vec<JoinHandle<()>>,
    stop_supervisors: CancellationToken,
    projections: Vec<Projections>,
    _stream_watchers: Vec<AbortOnDropHandle<()>>,
}

/// Opened ledgers of the tenants, and the parts of each that run in the background.
#[derive(Default)]
struct OpenLedgers {
    ledgers: BTreeMap<TenantName, Ledger>,
    /// Projections on the primary, by tenant.
    primaries: BTreeMap<TenantName, Projections>,
    /// Projections that the supervisor keeps up to date, each with its journal.
    supervised: Vec<(Projections, SharedJournal)>,
    /// Projections on a replica, whose live generation is watched.
    watched: Vec<Projections>,
    /// Projections that answer queries: `refresh_gauges` probes them and determines their drift.
    queried: Vec<Projections>,
    /// All projections, which are closed at the end.
    projections: Vec<Projections>,
    ingests: Vec<JoinHandle<()>>,
    controllers: Vec<Controller>,
    /// Tenants whose entries are delivered to webhooks.
    subscribers: Vec<Subscriber>,
    /// Signing secrets that their subscriptions may name.
    secrets: SigningSecrets,
    stream_watchers: Vec<AbortOnDropHandle<()>>,
}

impl OpenLedgers {
    /// Opens the ledger of a tenant.
    fn open(
        &mut self,
        tenant: &TenantName,
        (journal, quarantine): (SharedJournal, Arc<Quarantine>),
        config: &Config,
    ) -> Result<(), Error> {
        let watcher = stream_settings::watch(tenant.clone(), Arc::clone(&journal));
        self.stream_watchers.push(AbortOnDropHandle::new(tokio::spawn(watcher)));
        let open_error = |source| Error::Projections { tenant: tenant.clone(), source };
        let settings = config.projections.settings();
        let projections = Projections::new(&settings, tenant.clone()).map_err(open_error)?;
        self.primaries.insert(tenant.clone(), projections.clone());
        self.supervised.push((projections.clone(), Arc::clone(&journal)));
        let read_projections = match config.projections.read_settings() {
            Some(settings) => {
                let replica = projections.for_replica(&settings).map_err(open_error)?;
                self.watched.push(replica.clone());
                replica
            }
            None => projections.clone(),
        };
        self.queried.push(read_projections.clone());
        self.projections.extend([projections.clone(), read_projections.clone()]);
        let (ingest, task) =
            Ingest::open(tenant.clone(), Arc::clone(&journal), projections.clone(), clock::now);
        self.ingests.push(task);
        if config.roles.contains(&Role::Controller) {
            self.controllers.push(Controller::new(tenant.clone(), &projections, ingest.clone()));
        }
        // The tenant of tokens and grants has no subscriptions.
        if config.roles.contains(&Role::Webhooks) && !tenant.is_admin() {
            self.subscribers.push(Subscriber {
                tenant: tenant.clone(),
                projections: projections.clone(),
                ingest: ingest.clone(),
                secrets: self.secrets.remove(tenant).unwrap_or_default(),
            });
        }
        let ledger = Ledger { ingest, projections: read_projections, journal, quarantine, clock: clock::now };
        self.ledgers.insert(tenant.clone(), ledger);
        Ok(())
    }

    /// Starts what records events of its own: the rollback controllers and the deliveries to webhooks.
    fn start_controllers(
        &mut self,
        config: &Config,
        stop: &CancellationToken,
    ) -> Result<Vec<JoinHandle<()>>, Error> {
        let controllers = std::mem::take(&mut self.controllers).into_iter();
        let mut tasks: Vec<_> = controllers.map(|it| tokio::spawn(it.run(stop.clone()))).collect();
        let subscribers = std::mem::take(&mut self.subscribers);
        if subscribers.is_empty() {
            return Ok(tasks);
        }
        let settings = config.webhooks.settings()?;
        let deliveries = Arc::new(Deliveries::new(&settings, ledger_api::entry_json, clock::now)?);
        tasks.extend(subscribers.into_iter().map(|subscriber| {
            let deliverer = Deliverer::new(&deliveries, subscriber, identity::process());
            tokio::spawn(deliverer.run(stop.clone()))
        }));
        Ok(tasks)
    }
}

/// Starts the tasks that keep the projections, their gauges and the certificate up to date.
fn start_background_tasks(
    config: &Config,
    supervisor: ProjectionSupervisor,
    watched: Vec<Projections>,
    queried: Vec<Projections>,
    tls: Option<Tls>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let environments = config.http.metrics_environments;
    let mut tasks = vec![
        tokio::spawn(supervisor.run(stop.clone())),
        tokio::spawn(GenerationWatcher::new(watched).run(stop.clone())),
        tokio::spawn(refresh_gauges(queried, environments, clock::now, stop.clone())),
    ];
    tasks.extend(tls.map(|tls| tokio::spawn(reload::run(tls, stop.clone()))));
    tasks
}

/// Starts the task that stores the log of reads, if there is one.
fn store_reads(app: &ledger_api::App, stop: &CancellationToken) -> Option<JoinHandle<()>> {
    Some(tokio::spawn(Arc::clone(app.read_log.as_ref()?).run(stop.clone())))
}

/// Starts the task that follows tokens and grants, if clients need credentials.
fn follow_access(app: &ledger_api::App, stop: &CancellationToken) -> Option<JoinHandle<()>> {
    let Authentication::Required(authenticator) = &app.authentication else { return None };
    let journal = Arc::clone(&app.ledgers.get(&TenantName::admin())?.journal);
    let follower = AccessFollower::new(Arc::clone(authenticator), journal);
    Some(tokio::spawn(follower.run(stop.clone())))
}

/// Starts the task that publishes the use of the quarantines.
fn watch_quarantines(app: &ledger_api::App, stop: &CancellationToken) -> JoinHandle<()> {
    let quarantines = app.ledgers.iter().map(|(tenant, it)| (tenant.clone(), Arc::clone(&it.quarantine)));
    tokio::spawn(refresh_quarantine_gauges(quarantines.collect(), stop.clone()))
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
    OF_THE_PROCESS + config.webhooks.connections() + config.ledgers().len() * of_a_tenant
}

/// Waits for tasks that stop, all at the same time, and no longer than the limit.
async fn join(tasks: Vec<JoinHandle<()>>, limit: Duration, what: &'static str) {
    match timeout(limit, join_all(tasks)).await {
        Ok(ended) => {
            for error in ended.into_iter().filter_map(Result::err) {
                warn!(%error, what, "a background task failed");
            }
        }
        Err(_) => warn!(what, "background tasks did not stop in time"),
    }
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
        let mut journals: Vec<TenantJournal> = Vec::new();
        for tenant in config.ledgers() {
            let journal = connection.journal(tenant.clone()).await?;
            let quarantine = Quarantine::JetStream(Box::new(connection.quarantine(&tenant)));
            journals.push((tenant, Arc::new(journal), Arc::new(quarantine)));
        }
        let mut app = Self::with_journals(config, metrics, journals).await?;
        app.start_nats(config).await?;
        Ok(app)
    }

    /// Starts the exchange of messages with NATS. A process without the role `http` has none.
    async fn start_nats(&mut self, config: &Config) -> Result<(), Error> {
        if config.roles.contains(&Role::Http) {
            let receiver = Arc::new(self.receiver.clone());
            let tasks = nats::start(config, receiver, &self.primaries, &self.stop_controllers).await?;
            self.controllers.extend(tasks);
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
        journals: Vec<TenantJournal>,
    ) -> Result<Self, Error> {
        let tls = config.http.tls().map(Tls::open).transpose()?;
        let mut opened = OpenLedgers { secrets: config.signing_secrets()?, ..OpenLedgers::default() };
        for (tenant, journal, quarantine) in journals {
            opened.open(&tenant, (journal, quarantine), config)?;
        }
        let stop_supervisors = CancellationToken::new();
        let (process, runs_projectors) = (identity::process(), config.roles.contains(&Role::Projector));
        let supervisor_config = config.projections.supervisor_config(process, runs_projectors);
        let mut supervisor =
            ProjectionSupervisor::new(supervisor_config, std::mem::take(&mut opened.supervised));
        // Check that the journal matches the projections before ingest opens. If the database is unavailable, ingest
        // opens anyway.
        supervisor.reconcile_once().await;
        let stop_controllers = CancellationToken::new();
        let controllers = opened.start_controllers(config, &stop_controllers)?;
        let (watched, queried) = (opened.watched, opened.queried);
        let mut background_tasks =
            start_background_tasks(config, supervisor, watched, queried, tls.clone(), &stop_supervisors);
        let limits = Limits {
            connections: descriptors::reserve(config.http.max_connections, own_descriptors(config)),
            ..config.http.limits()
        };
        let end_streams = CancellationToken::new();
        let hooks = config.hooks()?;
        let kafka = Kafka::open(config, &hooks).map_err(Error::Kafka)?;
        let app = Arc::new(ledger_api::App {
            ledgers: opened.ledgers,
            metrics,
            limits,
            bounds: Bounds::new(&limits),
            authentication: config.access.authentication(clock::now)?,
            rates: Rates::new(config.limits.rates()),
            read_log: config.access.read_log(&opened.primaries, clock::now),
            hooks,
            cdevents: config.cdevents.clone(),
            allowed_hosts: config.http.allowed_hosts.clone(),
            is_encrypted: config.http.is_encrypted(),
            checks: kafka.checks(),
            history_scans: Semaphore::new(MAX_HISTORY_SCANS),
            shutdown: end_streams.clone(),
        });
        background_tasks.extend(follow_access(&app, &stop_supervisors));
        background_tasks.extend(store_reads(&app, &stop_supervisors));
        background_tasks.push(watch_quarantines(&app, &stop_supervisors));
        let receiver = BrokerReceiver::new(Arc::clone(&app));
        let kafka = kafka.start(&app, &opened.primaries, process, &end_streams).map_err(Error::Kafka)?;
        let router = if config.roles.contains(&Role::Http) {
            ledger_api::router(app)
        } else {
            ledger_api::health_router(app)
        };
        let (listener, address) = listen(config.http.listen).await?;
        Ok(Self {
            listener,
            address,
            tls,
            router,
            limits,
            end_streams,
            stop_controllers,
            controllers,
            primaries: opened.primaries,
            receiver,
            kafka,
            ingests: opened.ingests,
            background_tasks,
            stop_supervisors,
            projections: opened.projections,
            _stream_watchers: opened.stream_watchers,
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
        let (end_streams, stop_controllers) = (self.end_streams, self.stop_controllers);
        let drain_timeout = async {
            shutdown.cancelled().await;
            info!("shutting down; completing requests in progress");
            // Responses without an end of their own, consumers and controllers hold ingest handles.
            end_streams.cancel();
            stop_controllers.cancel();
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = server => {}
            () = drain_timeout => warn!("aborting requests that did not complete in time"),
        }
        // If no request was in progress, the server may have stopped before `drain_timeout` cancelled them.
        end_streams.cancel();
        stop_controllers.cancel();
        let [recorders_limit, ingest_limit, projectors_limit] = STOP_TIMEOUTS;
        tokio::join!(
            join(self.kafka.consumers, recorders_limit, "consumers of Kafka"),
            join(self.kafka.followers, recorders_limit, "followers of Kafka"),
            join(self.controllers, recorders_limit, "rollback controllers, NATS, and deliveries to webhooks"),
        );
        // Ingest stops when all its handles are dropped and everything is appended. The handlers have dropped theirs.
        // A request that did not complete in time still holds one, but has nothing to append.
        join(self.ingests, ingest_limit, "ingest").await;
        self.stop_supervisors.cancel();
        join(self.background_tasks, projectors_limit, "projectors").await;
        for projections in self.projections {
            projections.close().await;
        }
        info!("stopped");
    }
}
