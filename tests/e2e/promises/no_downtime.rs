//! No planned downtime: queries are answered while projections are rebuilt and programs are replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger_projections::SchemaVersion;
use ledger_tests::{Client, Command, Servers, Service, deploy, digests, projections_connection};
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{NEXT_PROGRAM, PROGRAM, varied};

const READERS: usize = 64;
/// Number of events of the demo history.
const DEMO: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_planned_downtime() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    client.record_all(&varied::history(DEMO)).await;
    let clients = BackgroundClients::start(&service.url());

    // A rebuild is killed midway, and another one continues it.
    let rebuild = ["projections", "rebuild", &nats(&servers), &postgres(&servers), "--log-filter=warn"];
    let killed = Command::start(PROGRAM, &rebuild);
    wait_until_rebuilding(&servers, 2).await;
    killed.kill().await;
    let done = Command::start(PROGRAM, &rebuild).outcome().await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("are the same at"), "{}", done.stdout);
    clients.wait_for_more(200).await;
    assert_eq!(clients.failed(), Vec::<String>::new());

    // A program with another schema version starts, builds its projections, and takes over.
    let next = Service::start(NEXT_PROGRAM, &servers, &[]).await;
    clients.wait_for_more(200).await;
    clients.switch_to(&next.url());
    clients.wait_for_more(200).await;
    assert!(service.terminate().await, "the old service exits successfully");
    clients.wait_for_more(200).await;
    let failed = clients.stop().await;

    assert_eq!(failed, Vec::<String>::new());
    let (_, head) = next.client().positions().await;
    next.client().wait_for_projections(head).await;
    let database = servers.fresh_database("rebuilt").await;
    let fresh = Service::start(NEXT_PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    fresh.client().wait_for_projections(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, digests(&database, "default").await);
}

fn nats(servers: &Servers) -> String {
    format!("--journal-url={}", servers.nats_url())
}

fn postgres(servers: &Servers) -> String {
    format!("--projections-url={}", servers.postgres_url())
}

/// Waits until a generation has projected entries.
async fn wait_until_rebuilding(servers: &Servers, number: i32) {
    let filled = async {
        let mut connection = projections_connection(&servers.postgres_url(), "default").await;
        let position = format!(
            "SELECT position FROM ledger_default_v{}_{number}.projection",
            SchemaVersion::CURRENT.version
        );
        loop {
            let found: Result<i64, _> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(position.clone())).fetch_one(&mut connection).await;
            if found.is_ok_and(|position| position > 0) {
                return connection.close().await;
            }
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, filled).await.expect("projections are rebuilt").expect("closed");
}

/// Clients that query and record without a pause, and collect every failed response.
struct BackgroundClients {
    tasks: JoinSet<()>,
    url: watch::Sender<String>,
    response_count: Arc<AtomicU64>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
}

impl BackgroundClients {
    fn start(url: &str) -> Self {
        let mut clients = Self {
            tasks: JoinSet::new(),
            url: watch::Sender::new(url.to_owned()),
            response_count: Arc::default(),
            failed: Arc::default(),
            stopping: Arc::default(),
        };
        for reader in 0..READERS {
            let path = [
                "/v1/environments/production/state",
                "/v1/events?limit=20&environment=production",
                "/v1/environments/production/diff?from=-3",
                "/v1/environments/production/points",
            ][reader % 4];
            clients.spawn(move |client, _| async move { client.get(path).await });
        }
        for writer in 0..2 {
            clients.spawn(move |client, number| async move {
                let id = format!("constant-{writer}-{number}");
                let event = deploy(&id, "2026-08-02T10:00:00Z", "production", "constant", &id);
                client.record(&event).await
            });
        }
        clients
    }

    fn spawn<A: Future<Output = ledger_tests::Response> + Send>(
        &mut self,
        send: impl Fn(Client, u64) -> A + Send + 'static,
    ) {
        let (url, response_count, failed, stopping) =
            (self.url.subscribe(), self.response_count.clone(), self.failed.clone(), self.stopping.clone());
        self.tasks.spawn(async move {
            let mut current_url = url.borrow().clone();
            let mut client = Client::new(&current_url);
            let mut number = 0;
            while !stopping.load(Ordering::Relaxed) {
                if *url.borrow() != current_url {
                    current_url.clone_from(&url.borrow());
                    client = Client::new(&current_url);
                }
                number += 1;
                let response = send(client.clone(), number).await;
                if response.status >= 300 {
                    failed.lock().expect("no panic").push(format!("{} {}", response.status, response.text));
                }
                response_count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Waits until this many more requests have a response.
    async fn wait_for_more(&self, more: u64) {
        let target = self.response_count.load(Ordering::Relaxed) + more;
        while self.response_count.load(Ordering::Relaxed) < target {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Sends further requests to another process, like a load balancer.
    fn switch_to(&self, url: &str) {
        self.url.send_replace(url.to_owned());
    }

    fn failed(&self) -> Vec<String> {
        self.failed.lock().expect("no panic").clone()
    }

    async fn stop(self) -> Vec<String> {
        self.stopping.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.failed.lock().expect("no panic").clone()
    }
}
