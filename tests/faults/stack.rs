//! The servers and services of a stint, and the faults injected into them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, ServerAddr};
use ledger_tests::Client;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::database::Database;
use crate::disk::Disk;
use crate::nats::{Node, PASSWORD, USER, store};
use crate::plan::{Fault, SERVICES, ScheduledFault, Server, Stint, Topology};
use crate::report::Report;
use crate::service::ServiceProcess;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
/// Time within which all servers and services must be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// Interval of the checks for exited processes and for readiness.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Size of a small disk of the nats-server, in MiB.
const NATS_DISK_MEBIBYTES: u64 = 256;
/// Size of a small disk of Postgres, in MiB.
const POSTGRES_DISK_MEBIBYTES: u64 = 512;

/// The processes and disks, each behind a lock of its own.
struct Parts {
    services: Vec<Mutex<ServiceProcess>>,
    nodes: Vec<Mutex<Node>>,
    postgres: Mutex<Database>,
    disks: BTreeMap<&'static str, Disk>,
}

/// Everything that runs in a stint. It ends on drop.
pub(crate) struct Stack {
    parts: Arc<Parts>,
    supervisor: JoinHandle<()>,
    clients: Vec<Client>,
    ports: Vec<u16>,
    postgres_url: String,
    duplicate_window_seconds: u64,
    report: Arc<Report>,
    // The last field: dropped, and so deleted, after the servers have ended.
    folder: Option<TempDir>,
}

fn duplicate_window_flag(seconds: u64) -> String {
    format!("--journal-duplicate-window-seconds={seconds}")
}

fn disk_name(server: Server) -> &'static str {
    match server {
        Server::Nats => "nats",
        Server::Postgres => "postgres",
    }
}

impl Stack {
    /// Starts the servers and services of a stint, and waits until the services are ready.
    pub(crate) async fn start(stint: &Stint, report: &Arc<Report>) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("ledger-faults-").tempdir().expect("create a temporary folder");
        let mut disks = BTreeMap::new();
        if stint.topology == Topology::SmallDisks {
            let nats_store = store(&folder.path().join("nats-0"));
            let postgres_folder = folder.path().join("postgres");
            for (server, mount_point, mebibytes) in [
                (Server::Nats, nats_store, NATS_DISK_MEBIBYTES),
                (Server::Postgres, postgres_folder, POSTGRES_DISK_MEBIBYTES),
            ] {
                match Disk::mount(&mount_point, mebibytes) {
                    Ok(disk) => drop(disks.insert(disk_name(server), disk)),
                    Err(error) => report.skipped(&Fault::FullDisk(server).kind(), &error),
                }
            }
        }
        let nodes = Node::start_all(folder.path(), stint.topology.nodes());
        let ports: Vec<u16> = nodes.iter().map(Node::port).collect();
        let postgres = Database::start(&folder.path().join("postgres")).await;
        let postgres_url = postgres.url();
        listening(&ports).await?;
        let window = stint.duplicate_window_seconds;
        let mut services = Vec::new();
        for name in ["a", "b"].iter().take(SERVICES) {
            let log = folder.path().join(format!("service-{name}.log"));
            let address = (postgres_url.as_str(), postgres.port());
            let more = [duplicate_window_flag(window)];
            services.push(ServiceProcess::start(PROGRAM, &log, &ports, address, &more).await);
        }
        let clients = services.iter().map(ServiceProcess::client).collect();
        let parts = Arc::new(Parts {
            services: services.into_iter().map(Mutex::new).collect(),
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            postgres: Mutex::new(postgres),
            disks,
        });
        let stack = Self {
            supervisor: tokio::spawn(supervise(Arc::clone(&parts), Arc::clone(report))),
            parts,
            clients,
            ports,
            postgres_url,
            duplicate_window_seconds: window,
            report: Arc::clone(report),
            folder: Some(folder),
        };
        stack.ready().await?;
        Ok(stack)
    }

    /// Returns a client of each service.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.clients.clone()
    }

    /// Returns the URL of the projections' database, without a proxy.
    pub(crate) fn postgres_url(&self) -> &str {
        &self.postgres_url
    }

    /// Injects the faults of a round at their times, and returns after the last has ended.
    pub(crate) async fn inject(&self, faults: &[ScheduledFault]) {
        let begin = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for scheduled in faults.iter().cloned() {
            let (parts, report) = (Arc::clone(&self.parts), Arc::clone(&self.report));
            tasks.spawn(async move {
                sleep_until(begin + scheduled.at).await;
                if parts.begin_fault(&scheduled.fault).await {
                    report.fault(&scheduled);
                    sleep(scheduled.duration).await;
                    parts.end_fault(&scheduled.fault, &report).await;
                }
            });
        }
        tasks.join_all().await;
    }

    /// Kills and restarts the nats-servers.
    pub(crate) async fn restart_nats(&self) {
        for node in &self.parts.nodes {
            let mut node = node.lock().await;
            node.kill();
            node.start();
        }
    }

    /// Waits until both services are ready.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let mut errors = Vec::new();
        let all = async {
            loop {
                errors.clear();
                for client in &self.clients {
                    let request =
                        client.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(5));
                    match Client::try_send(request).await {
                        Ok(response) if response.status == 200 => {}
                        Ok(response) => errors.push(response.text),
                        Err(error) => errors.push(error.to_string()),
                    }
                }
                if errors.is_empty() {
                    return;
                }
                sleep(POLL_INTERVAL).await;
            }
        };
        match timeout(READY_TIMEOUT, all).await {
            Ok(()) => Ok(()),
            Err(_) => Err(format!("not ready within {READY_TIMEOUT:?}: {}", errors.join("; "))),
        }
    }

    /// Connects to JetStream without a service or a proxy.
    pub(crate) async fn jetstream(&self) -> Context {
        let addresses: Vec<ServerAddr> = self
            .ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}").parse().expect("parse the address"))
            .collect();
        let options = ConnectOptions::with_user_and_password(USER.into(), PASSWORD.into());
        jetstream::new(options.connect(addresses).await.expect("connect to NATS"))
    }

    /// Starts a service that projects the same stream into a new database of this name. Returns the service, which
    /// ends on drop, and the URL of the database.
    pub(crate) async fn rebuild(&self, database: &str) -> Result<(ServiceProcess, String), String> {
        use sqlx::Connection as _;
        let admin = sqlx::PgConnection::connect(&self.postgres_url).await;
        let mut admin = admin.map_err(|error| error.to_string())?;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::query(create).execute(&mut admin).await.map_err(|error| error.to_string())?;
        let url = self.postgres_url.replace("/ledger?", &format!("/{database}?"));
        let log = self.folder().join("rebuild.log");
        let port = self.parts.postgres.lock().await.port();
        let more = ["--only=http,projector".to_owned(), duplicate_window_flag(self.duplicate_window_seconds)];
        let service = ServiceProcess::start(PROGRAM, &log, &self.ports, (&url, port), &more).await;
        Ok((service, url))
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// Ends everything. With `keep`, the folder with the logs stays; returns its path, which is empty otherwise.
    pub(crate) async fn end(mut self, keep: bool) -> PathBuf {
        self.supervisor.abort();
        // The task holds the parts until it has ended. Its result is always that it was aborted.
        let _ = (&mut self.supervisor).await;
        let kept = self.folder.take_if(|_| keep);
        kept.map_or_else(PathBuf::new, TempDir::keep)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// Waits until servers listen on all these ports.
async fn listening(ports: &[u16]) -> Result<(), String> {
    let all = async {
        for port in ports {
            while tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    timeout(READY_TIMEOUT, all)
        .await
        .map_err(|_| format!("a nats-server does not listen within {READY_TIMEOUT:?}"))
}

/// Restarts processes that exited.
async fn supervise(parts: Arc<Parts>, report: Arc<Report>) {
    loop {
        sleep(POLL_INTERVAL).await;
        let mut notes = Vec::new();
        for service in &parts.services {
            notes.extend(service.lock().await.restart_if_exited());
        }
        for node in &parts.nodes {
            notes.extend(node.lock().await.restart_if_exited());
        }
        notes.extend(parts.postgres.lock().await.restart_if_exited().await);
        notes.into_iter().for_each(|note| report.note(note));
    }
}

impl Parts {
    /// Begins a fault. Returns false if it is impossible on this machine.
    async fn begin_fault(&self, fault: &Fault) -> bool {
        match fault {
            Fault::KillService(service) => self.services[*service].lock().await.kill(),
            Fault::PauseService(service) => self.services[*service].lock().await.pause(),
            Fault::KillNats(node) => self.nodes[*node].lock().await.kill(),
            Fault::PauseNats(node) => self.nodes[*node].lock().await.pause(),
            Fault::KillPostgres => self.postgres.lock().await.kill().await,
            Fault::PausePostgres => self.postgres.lock().await.pause(),
            Fault::Connection(service, server, fault) => {
                self.services[*service].lock().await.begin_connection_fault(*server, *fault);
            }
            Fault::FullDisk(server) => match self.disks.get(disk_name(*server)) {
                Some(disk) => disk.fill(),
                None => return false,
            },
        }
        true
    }

    async fn end_fault(&self, fault: &Fault, report: &Report) {
        match fault {
            Fault::KillService(service) => self.services[*service].lock().await.run(),
            Fault::PauseService(service) => self.services[*service].lock().await.resume(),
            Fault::KillNats(node) => self.nodes[*node].lock().await.start(),
            Fault::PauseNats(node) => self.nodes[*node].lock().await.resume(),
            Fault::KillPostgres => {
                let error = self.postgres.lock().await.restart().await;
                error.into_iter().for_each(|error| report.note(error));
            }
            Fault::PausePostgres => self.postgres.lock().await.resume(),
            Fault::Connection(service, server, fault) => {
                self.services[*service].lock().await.end_connection_fault(*server, *fault);
            }
            Fault::FullDisk(server) => {
                if let Some(disk) = self.disks.get(disk_name(*server)) {
                    disk.free();
                }
            }
        }
    }
}
