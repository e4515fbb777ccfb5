//! All that runs in a stint: servers, the services on them, and what is done to them.

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
use crate::plan::{Fault, SERVICES, Server, Stand, Stint, Timed};
use crate::replica::Replica;
use crate::report::Report;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
/// How long all may take to be ready once nothing harms it any more.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often what ended by itself is looked for.
const MIND: Duration = Duration::from_millis(200);
/// Room on the small disks, in megabytes.
const DISKS: (u64, u64) = (256, 512);

/// The parts, each for one hand at a time.
struct Parts {
    replicas: Vec<Mutex<Replica>>,
    nodes: Vec<Mutex<Node>>,
    postgres: Mutex<Database>,
    disks: BTreeMap<&'static str, Disk>,
}

/// What runs. All of it ends when this is dropped.
pub(crate) struct Stack {
    parts: Arc<Parts>,
    minding: JoinHandle<()>,
    clients: Vec<Client>,
    ports: Vec<u16>,
    postgres_url: String,
    memory: u64,
    report: Arc<Report>,
    // Last, so that it is removed when the servers are gone.
    folder: Option<TempDir>,
}

/// The flag for how long the nats-server remembers identities.
fn memory(seconds: u64) -> String {
    format!("--journal-duplicate-window-seconds={seconds}")
}

fn disk_of(server: Server) -> &'static str {
    match server {
        Server::Nats => "nats",
        Server::Postgres => "postgres",
    }
}

impl Stack {
    /// Starts what a stint stands on, and the services; waits until both are ready.
    pub(crate) async fn start(stint: &Stint, report: &Arc<Report>) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("ledger-faults-").tempdir().expect("a folder");
        let mut disks = BTreeMap::new();
        if stint.stand == Stand::SmallDisks {
            let of_nats = store(&folder.path().join("nats-0"));
            let of_postgres = folder.path().join("postgres");
            for (server, place, room) in
                [(Server::Nats, of_nats, DISKS.0), (Server::Postgres, of_postgres, DISKS.1)]
            {
                match Disk::mount(&place, room) {
                    Ok(disk) => drop(disks.insert(disk_of(server), disk)),
                    Err(why) => report.not_run(&Fault::FullDisk(server).kind(), &why),
                }
            }
        }
        let nodes = Node::start_all(folder.path(), stint.stand.nodes());
        let ports: Vec<u16> = nodes.iter().map(Node::port).collect();
        let postgres = Database::start(&folder.path().join("postgres")).await;
        let postgres_url = postgres.url();
        listening(&ports).await?;
        let mut replicas = Vec::new();
        for name in ["a", "b"].iter().take(SERVICES) {
            let log = folder.path().join(format!("service-{name}.log"));
            let address = (postgres_url.as_str(), postgres.port());
            let memory = memory(stint.memory);
            replicas.push(Replica::start(PROGRAM, &log, &ports, address, &[memory]).await);
        }
        let clients = replicas.iter().map(Replica::client).collect();
        let parts = Arc::new(Parts {
            replicas: replicas.into_iter().map(Mutex::new).collect(),
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            postgres: Mutex::new(postgres),
            disks,
        });
        let minding = tokio::spawn(mind(Arc::clone(&parts), Arc::clone(report)));
        let report = Arc::clone(report);
        let (memory, folder) = (stint.memory, Some(folder));
        let stack = Self { parts, minding, clients, ports, postgres_url, memory, report, folder };
        stack.ready().await?;
        Ok(stack)
    }

    /// What asks the services.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.clients.clone()
    }

    /// The database of the projections, past all proxies.
    pub(crate) fn postgres_url(&self) -> &str {
        &self.postgres_url
    }

    /// Does to the parts what is planned for a round, and undoes it; returns after the last.
    pub(crate) async fn suffer(&self, faults: &[Timed]) {
        let begin = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for timed in faults.iter().cloned() {
            let (parts, report) = (Arc::clone(&self.parts), Arc::clone(&self.report));
            tasks.spawn(async move {
                sleep_until(begin + timed.at).await;
                if parts.inflict(&timed.fault).await {
                    report.fault(&timed);
                    sleep(timed.lasts).await;
                    parts.relieve(&timed.fault, &report).await;
                }
            });
        }
        tasks.join_all().await;
    }

    /// SIGKILL to the nats-servers, and their start.
    pub(crate) async fn start_nats_anew(&self) {
        for node in &self.parts.nodes {
            let mut node = node.lock().await;
            node.kill();
            node.start();
        }
    }

    /// Waits until both services are ready.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let mut last = Vec::new();
        let all = async {
            loop {
                last.clear();
                for client in &self.clients {
                    let asked =
                        client.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(5));
                    match Client::try_send(asked).await {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => last.push(answer.text),
                        Err(error) => last.push(error.to_string()),
                    }
                }
                if last.is_empty() {
                    return;
                }
                sleep(MIND).await;
            }
        };
        match timeout(READY_WITHIN, all).await {
            Ok(()) => Ok(()),
            Err(_) => Err(format!("not ready within {READY_WITHIN:?}: {}", last.join("; "))),
        }
    }

    /// JetStream, past the services and all proxies.
    pub(crate) async fn jetstream(&self) -> Context {
        let addresses: Vec<ServerAddr> = self
            .ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}").parse().expect("an address"))
            .collect();
        let options = ConnectOptions::with_user_and_password(USER.into(), PASSWORD.into());
        jetstream::new(options.connect(addresses).await.expect("connected to NATS"))
    }

    /// A service that folds the same stream into a fresh database of this name; it is gone with the value.
    pub(crate) async fn rebuild(&self, name: &str) -> Result<(Rebuilt, String), String> {
        use sqlx::Connection as _;
        let admin = sqlx::PgConnection::connect(&self.postgres_url).await;
        let mut admin = admin.map_err(|error| error.to_string())?;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut admin).await.map_err(|error| error.to_string())?;
        let url = self.postgres_url.replace("/ledger?", &format!("/{name}?"));
        let log = self.folder().join("rebuild.log");
        let port = self.parts.postgres.lock().await.port();
        let more = ["--only=http,projector".to_owned(), memory(self.memory)];
        let replica = Replica::start(PROGRAM, &log, &self.ports, (&url, port), &more).await;
        Ok((Rebuilt { replica }, url))
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// Ends all of it. With `keep`, its folder stays, where the logs are.
    pub(crate) async fn end(mut self, keep: bool) -> PathBuf {
        self.minding.abort();
        // It holds the parts until it has ended; that it was aborted is known.
        let _ = (&mut self.minding).await;
        let kept = self.folder.take_if(|_| keep);
        kept.map_or_else(PathBuf::new, TempDir::keep)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.minding.abort();
    }
}

/// A service on projections of its own.
pub(crate) struct Rebuilt {
    replica: Replica,
}

impl Rebuilt {
    /// What asks it.
    pub(crate) fn client(&self) -> Client {
        self.replica.client()
    }
}

/// Waits until servers listen.
async fn listening(ports: &[u16]) -> Result<(), String> {
    let all = async {
        for port in ports {
            while tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    timeout(READY_WITHIN, all).await.map_err(|_| "a nats-server does not listen".to_owned())
}

/// Starts again whatever ended by itself.
async fn mind(parts: Arc<Parts>, report: Arc<Report>) {
    loop {
        sleep(MIND).await;
        let mut told = Vec::new();
        for replica in &parts.replicas {
            told.extend(replica.lock().await.mind());
        }
        for node in &parts.nodes {
            told.extend(node.lock().await.mind());
        }
        told.extend(parts.postgres.lock().await.mind().await);
        told.into_iter().for_each(|what| report.note(what));
    }
}

impl Parts {
    /// Begins a fault; says whether it can be done here.
    async fn inflict(&self, fault: &Fault) -> bool {
        match fault {
            Fault::KillService(service) => self.replicas[*service].lock().await.kill(),
            Fault::StopService(service) => self.replicas[*service].lock().await.stop(),
            Fault::KillNats(node) => self.nodes[*node].lock().await.kill(),
            Fault::StopNats(node) => self.nodes[*node].lock().await.stop(),
            Fault::KillPostgres => self.postgres.lock().await.kill().await,
            Fault::StopPostgres => self.postgres.lock().await.stop(),
            Fault::Line(service, server, harm) => self.replicas[*service].lock().await.harm(*server, *harm),
            Fault::FullDisk(server) => match self.disks.get(disk_of(*server)) {
                Some(disk) => disk.fill(),
                None => return false,
            },
        }
        true
    }

    /// Ends a fault.
    async fn relieve(&self, fault: &Fault, report: &Report) {
        match fault {
            Fault::KillService(service) => self.replicas[*service].lock().await.run(),
            Fault::StopService(service) => self.replicas[*service].lock().await.resume(),
            Fault::KillNats(node) => self.nodes[*node].lock().await.start(),
            Fault::StopNats(node) => self.nodes[*node].lock().await.resume(),
            Fault::KillPostgres => {
                let failed = self.postgres.lock().await.start_again().await;
                failed.into_iter().for_each(|what| report.note(what));
            }
            Fault::StopPostgres => self.postgres.lock().await.resume(),
            Fault::Line(service, server, harm) => self.replicas[*service].lock().await.spare(*server, *harm),
            Fault::FullDisk(server) => {
                if let Some(disk) = self.disks.get(disk_of(*server)) {
                    disk.empty();
                }
            }
        }
    }
}
