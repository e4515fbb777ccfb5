//! Three nats-servers on loopback, configured by `ops/nats/three-nodes.conf`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use async_nats::jetstream::{self, Context, stream};
use ledger_devstack::nats::User;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::WAIT_LIMIT;
use crate::{free_ports, nats_client};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/nats/three-nodes.conf");
/// Interval at which a state is polled that sends no notification.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Number of times that a cluster is started, each time on other ports, if another program takes one of its ports.
const START_ATTEMPTS: u32 = 5;

/// Three nodes in a temporary folder. Each can be killed, paused and restarted on the same ports with the data that
/// it stored.
pub struct Cluster {
    nodes: Vec<NodeProcess>,
    // The last field: the folder must outlive the servers.
    folder: TempDir,
}

/// One of the three nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(usize);

impl Node {
    /// The three nodes.
    pub const ALL: [Self; 3] = [Self(0), Self(1), Self(2)];

    fn name(self) -> &'static str {
        ["node-a", "node-b", "node-c"][self.0]
    }
}

/// The ports of a node for clients and for the other nodes.
#[derive(Debug, Clone, Copy)]
struct Ports {
    clients: u16,
    routes: u16,
}

struct NodeProcess {
    ports: [Ports; 3],
    node: Node,
    folder: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts three nodes and waits until they accept a stream with three replicas.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        for attempt in 1..=START_ATTEMPTS {
            let free = free_ports(6);
            let ports = [0, 2, 4].map(|at| Ports { clients: free[at], routes: free[at + 1] });
            let folder_of = |node: Node| folder.path().join(format!("{}-{attempt}", node.name()));
            let mut nodes: Vec<_> =
                Node::ALL.iter().map(|node| NodeProcess::new(ports, *node, folder_of(*node))).collect();
            let mut started = true;
            for node in &mut nodes {
                started &= node.launch().await;
            }
            if started {
                let cluster = Self { nodes, folder };
                cluster.wait_until_streams_are_accepted().await;
                return cluster;
            }
        }
        panic!("other programs took the cluster's ports {START_ATTEMPTS} times");
    }

    /// Returns the temporary folder, which is removed with the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the URL with which a user connects to any of the three nodes.
    #[must_use]
    pub fn url(&self, user: User) -> String {
        Node::ALL.map(|node| self.url_of(node, user)).join(",")
    }

    /// Returns the URL with which a user connects to one node.
    #[must_use]
    pub fn url_of(&self, node: Node, user: User) -> String {
        let (name, _, password) = account(user);
        format!("nats://{name}:{password}@127.0.0.1:{}", self.nodes[node.0].ports().clients)
    }

    /// Returns a JetStream context with the operator's permissions (break-glass access).
    pub async fn operator(&self) -> Context {
        let mut context = jetstream::new(nats_client(&self.url(User::Operator)).await);
        context.set_timeout(Duration::from_secs(2));
        context
    }

    /// Sends SIGKILL and waits for the process to exit.
    pub async fn kill(&mut self, node: Node) {
        self.nodes[node.0].kill();
    }

    /// Starts a killed node again with the data that it stored.
    pub async fn restart(&mut self, node: Node) {
        let node = &mut self.nodes[node.0];
        let started = async {
            // While it was down, another test's server may have been given its port.
            while !node.launch().await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(WAIT_LIMIT, started).await.expect("nats-server restarts");
    }

    /// Deletes the data that a killed node stored.
    pub fn delete_store(&mut self, node: Node) {
        let node = &self.nodes[node.0];
        assert!(node.child.is_none(), "the node is down");
        fs::remove_dir_all(node.folder.join("jetstream")).expect("removed");
    }

    /// Sends SIGSTOP and waits until the process is stopped: its sockets stay open, but it does not respond.
    pub async fn pause(&self, node: Node) {
        let node = &self.nodes[node.0];
        node.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", node.pid().as_raw_nonzero());
        let stopped = async {
            loop {
                let text = fs::read_to_string(&stat).expect("a process");
                let state = text.rsplit_once(')').map(|(_, state)| state.trim_start().chars().next());
                if state == Some(Some('T')) {
                    return;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(WAIT_LIMIT, stopped).await.expect("the node stops");
    }

    /// Sends SIGCONT.
    pub fn resume(&self, node: Node) {
        self.nodes[node.0].signal(Signal::CONT);
    }

    /// Waits for a stream's leader and returns it.
    pub async fn leader(&self, stream: &str) -> Node {
        let found = async {
            loop {
                let leader = self.info(stream).await.and_then(|info| info.cluster?.leader);
                match Node::ALL.into_iter().find(|node| leader.as_deref() == Some(node.name())) {
                    Some(node) => return node,
                    None => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        };
        timeout(WAIT_LIMIT, found).await.expect("the stream elects a leader")
    }

    /// Waits until a stream has a leader and two followers that are up to date.
    pub async fn wait_until_healthy(&self, stream: &str) {
        let healthy = async {
            loop {
                let cluster = self.info(stream).await.and_then(|info| info.cluster);
                if cluster.is_some_and(|cluster| {
                    let current = |peer: &&stream::PeerInfo| peer.current && !peer.offline;
                    cluster.leader.is_some() && cluster.replicas.iter().filter(current).count() == 2
                }) {
                    return;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(WAIT_LIMIT, healthy).await.expect("all three nodes have the stream");
    }

    async fn info(&self, stream: &str) -> Option<stream::Info> {
        let stream = self.operator().await.get_stream(stream).await.ok()?;
        Some(stream.cached_info().clone())
    }

    /// Waits until the nodes have formed a cluster: they reject streams until they have elected a leader.
    async fn wait_until_streams_are_accepted(&self) {
        let probe = stream::Config { name: "PROBE".into(), num_replicas: 3, ..stream::Config::default() };
        let operator = self.operator().await;
        let accepted = async {
            while operator.create_stream(&probe).await.is_err() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(WAIT_LIMIT, accepted).await.expect("the cluster accepts streams");
        operator.delete_stream("PROBE").await.expect("deleted");
    }
}

impl NodeProcess {
    fn new(ports: [Ports; 3], node: Node, folder: PathBuf) -> Self {
        Self { ports, node, folder, child: None }
    }

    const fn ports(&self) -> Ports {
        self.ports[self.node.0]
    }

    fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("nats-server runs").id();
        i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("nats-server runs");
    }

    /// Starts the node and waits for its greeting; returns false if another program has one of its ports.
    async fn launch(&mut self) -> bool {
        fs::create_dir_all(&self.folder).expect("a folder");
        let log_path = self.folder.join("nats.log");
        let log = fs::File::create(&log_path).expect("a log");
        let program = std::env::var_os("RELEASE_LEDGER_TEST_NATS").unwrap_or_else(|| "nats-server".into());
        let child = Command::new(program)
            .args(["--config", CONFIG])
            .envs(self.variables())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("nats-server is on PATH"));
        let deadline = Instant::now() + WAIT_LIMIT;
        while Instant::now() < deadline {
            let child = self.child.as_mut().expect("nats-server was started");
            if child.try_wait().expect("a status").is_some() {
                self.child = None;
                let log = fs::read_to_string(&log_path).expect("a log");
                assert!(log.contains("address already in use"), "nats-server fails:\n{log}");
                return false;
            }
            let greeting = timeout(Duration::from_secs(1), greeting(self.ports().clients)).await;
            if matches!(&greeting, Ok(Ok(line)) if line.contains(self.node.name())) {
                return true;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        panic!("nats-server does not start:\n{}", fs::read_to_string(&log_path).expect("a log"));
    }

    /// Returns the environment variables that the configuration refers to.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let Ports { clients, routes } = self.ports();
        let store = self.folder.join("jetstream");
        let mut variables = vec![
            ("NATS_NAME", quoted(self.node.name())),
            ("NATS_LISTEN", quoted(&format!("127.0.0.1:{clients}"))),
            ("NATS_CLUSTER_LISTEN", quoted(&format!("127.0.0.1:{routes}"))),
            ("NATS_STORE", quoted(store.to_str().expect("a path"))),
            ("NATS_MAX_FILE_STORE", "10GB".to_owned()),
            ("NATS_ROUTE_PASSWORD", quoted("route-password")),
        ];
        let publishers = [User::Publisher, User::Collector];
        for user in [User::Ledger, User::Reader, User::Restorer, User::Operator].into_iter().chain(publishers)
        {
            let (_, variable, password) = account(user);
            variables.push((variable, quoted(password)));
        }
        let names = ["NATS_ROUTE_A", "NATS_ROUTE_B", "NATS_ROUTE_C"];
        for (name, Ports { routes, .. }) in names.into_iter().zip(self.ports) {
            variables.push((name, quoted(&format!("nats://route:route-password@127.0.0.1:{routes}"))));
        }
        variables
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may have exited before; that is the result we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a user's name, the variable of its password, and the password.
const fn account(user: User) -> (&'static str, &'static str, &'static str) {
    match user {
        User::Ledger => ("ledger", "NATS_LEDGER_PASSWORD", "ledger-password"),
        User::Reader => ("reader", "NATS_READER_PASSWORD", "reader-password"),
        User::Restorer => ("restorer", "NATS_RESTORER_PASSWORD", "restorer-password"),
        User::Operator => ("operator", "NATS_OPERATOR_PASSWORD", "operator-password"),
        User::Publisher => ("publisher", "NATS_PUBLISHER_PASSWORD", "publisher-password"),
        User::Collector => ("collector", "NATS_COLLECTOR_PASSWORD", "collector-password"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Returns the first line that a server sends. A server listens only after it has recovered its data.
async fn greeting(port: u16) -> io::Result<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}
