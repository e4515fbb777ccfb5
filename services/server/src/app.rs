//! The service: wired from settings, serving, and ending in order.
//!
//! Ending: no new requests; those under way are answered; the rollback controllers end; the intakes append
//! what was accepted; the projectors end after their batch, and leave the projections to other processes; connections
//! are closed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ledger_api::{LONG_QUESTIONS, Ledger};
use ledger_domain::TenantName;
use ledger_ingest::{Controller, Ingest};
use ledger_journal::SharedJournal;
use ledger_journal::jetstream::{Connection, OpenError};
use ledger_projections::{GenerationWatcher, ProjectionSupervisor, Projections, SchemaVersion};
use metrics_exporter_prometheus::{BuildError as MetricsError, Matcher, PrometheusBuilder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::{Config, Role};
use crate::stream_settings;
use ledger_client::clock;
use ledger_client::identity;

/// How long requests that are under way may take when the service ends. What supervises a service
/// usually waits for thirty seconds before it kills.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the parts behind the requests may take after that, all together.
const SETTLE: Duration = Duration::from_secs(5);

/// Seconds of the histograms' buckets.
const BUCKETS: &[f64] = &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be opened.
    #[error("the journal cannot be opened")]
    Journal(#[from] OpenError),
    /// The projections can never be opened.
    #[error("the projections of {tenant} cannot be opened")]
    Projections {
        /// Whose.
        tenant: TenantName,
        /// Why.
        #[source]
        source: ledger_projections::Error,
    },
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Metrics cannot be gathered.
    #[error("metrics cannot be gathered")]
    Metrics(#[from] MetricsError),
}

/// The service, ready to serve.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    silence: Duration,
    ending: CancellationToken,
    deciding: CancellationToken,
    controllers: Vec<JoinHandle<()>>,
    ingests: Vec<JoinHandle<()>>,
    keepers: Vec<JoinHandle<()>>,
    keeping: CancellationToken,
    projections: Vec<Projections>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl App {
    /// Connects, opens every tenant's ledger with projections of a form, and listens.
    ///
    /// # Errors
    /// Says which part cannot be had.
    pub async fn build(config: &Config, schema_version: SchemaVersion) -> Result<Self, Error> {
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS)?
            .install_recorder()?;
        let connection = Connection::open(config.journal.settings()).await?;
        let settings = config.projections.settings(schema_version);
        let mut ledgers = BTreeMap::new();
        let (mut kept, mut watched, mut all_projections) = (Vec::new(), Vec::new(), Vec::new());
        let mut ingests = Vec::new();
        let (deciding, mut controllers) = (CancellationToken::new(), Vec::new());
        let mut watches = Vec::new();
        for tenant in &config.tenants {
            let journal: SharedJournal = Arc::new(connection.journal(tenant.clone()).await?);
            let watch = stream_settings::watch(tenant.clone(), Arc::clone(&journal));
            watches.push(AbortOnDropHandle::new(tokio::spawn(watch)));
            let unusable = |source| Error::Projections { tenant: tenant.clone(), source };
            let projections = Projections::of(&settings, tenant.clone()).map_err(unusable)?;
            kept.push((projections.clone(), Arc::clone(&journal)));
            let asked = match config.projections.read_settings(schema_version) {
                Some(settings) => {
                    let asked = projections.at(&settings).map_err(unusable)?;
                    watched.push(asked.clone());
                    asked
                }
                None => projections.clone(),
            };
            all_projections.extend([projections.clone(), asked.clone()]);
            let (ingest, task) =
                Ingest::open(tenant.clone(), Arc::clone(&journal), projections.clone(), clock::now);
            ingests.push(task);
            if config.roles.contains(&Role::Controller) {
                controllers.push(Controller::new(tenant.clone(), projections, ingest.clone()));
            }
            ledgers.insert(tenant.clone(), Ledger { ingest, projections: asked, journal, clock: clock::now });
        }
        let keeping = CancellationToken::new();
        let folds = config.roles.contains(&Role::Projector);
        let mut keeper =
            ProjectionSupervisor::new(config.projections.keeping(identity::process(), folds), kept);
        // Whether the journal is the one that the projections are of is known before anything comes through the door.
        // Where the database is away, events are taken in all the same.
        keeper.look().await;
        let controllers = controllers.into_iter().map(|it| tokio::spawn(it.run(deciding.clone()))).collect();
        let keepers = vec![
            tokio::spawn(keeper.run(keeping.clone())),
            tokio::spawn(GenerationWatcher::new(watched).run(keeping.clone())),
        ];
        let limits = config.http.limits();
        let ending = CancellationToken::new();
        let app = Arc::new(ledger_api::App {
            ledgers,
            metrics,
            limits,
            long_questions: Semaphore::new(LONG_QUESTIONS),
            ending: ending.clone(),
        });
        let router = if config.roles.contains(&Role::Http) {
            ledger_api::router(app)
        } else {
            ledger_api::health_router(app)
        };
        let address = config.http.listen;
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self {
            listener,
            address,
            router,
            silence: limits.silence,
            ending,
            deciding,
            controllers,
            ingests,
            keepers,
            keeping,
            projections: all_projections,
            _watches: watches,
        })
    }

    /// Where the service listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is cancelled, then ends in order.
    pub async fn serve(self, ending: CancellationToken) {
        info!(address = %self.address, "serving");
        let server = ledger_api::serve(self.listener, self.router, self.silence, ending.clone());
        let (answers, deciding) = (self.ending, self.deciding);
        let drained = async {
            ending.cancelled().await;
            info!("ending: requests under way are answered");
            // Answers that have no end of their own, and controllers, would keep the doors open.
            answers.cancel();
            deciding.cancel();
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = server => {}
            () = drained => warn!("some requests are not answered in time"),
        }
        // Where nothing was under way, all was over at once.
        answers.cancel();
        deciding.cancel();
        let settled = Instant::now() + SETTLE;
        for controller in self.controllers {
            if timeout_at(settled, controller).await.is_err() {
                warn!("a rollback controller does not end in time");
            }
        }
        // The handlers are gone, and with them the doors: the intakes end when all is appended. A
        // request that is not answered in time still holds its door, and has nothing to append.
        for ingest in self.ingests {
            if timeout_at(settled, ingest).await.is_err() {
                warn!("an intake does not end in time");
            }
        }
        self.keeping.cancel();
        for keeper in self.keepers {
            match timeout_at(settled, keeper).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "the projectors did not end well"),
                Err(_) => warn!("the projectors do not end in time"),
            }
        }
        for projections in self.projections {
            projections.close().await;
        }
        info!("ended");
    }
}
