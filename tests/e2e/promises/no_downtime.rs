//! No downtime of our own: projections are filled anew, and programs replaced, while questions are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger_projections::SchemaVersion;
use ledger_tests::{Client, Command, Servers, Service, deploy, digests, projections_connection};
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{NEXT_PROGRAM, PROGRAM, varied};

const READERS: usize = 64;
/// Events of the demo history.
const DEMO: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_downtime_of_our_own() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    client.recorded_all(&varied::history(DEMO)).await;
    let clients = ConstantClients::start(&service.url());

    // Projections are filled anew: killed midway, and taken up.
    let rebuild = ["projections", "rebuild", &nats(&servers), &postgres(&servers), "--log-filter=warn"];
    let killed = Command::start(PROGRAM, &rebuild);
    filling(&servers, 2).await;
    killed.kill().await;
    let done = Command::start(PROGRAM, &rebuild).outcome().await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("are the same at"), "{}", done.stdout);
    clients.more(200).await;
    assert_eq!(clients.failed(), Vec::<String>::new());

    // A program that knows another form of the projections comes, fills them, and takes over.
    let next = Service::start(NEXT_PROGRAM, &servers, &[]).await;
    clients.more(200).await;
    clients.turn_to(&next.url());
    clients.more(200).await;
    assert!(service.terminate().await, "the old one ends well");
    clients.more(200).await;
    let failed = clients.stop().await;

    assert_eq!(failed, Vec::<String>::new());
    let (_, head) = next.client().position().await;
    next.client().projections_at(head).await;
    let anew = servers.fresh_database("anew").await;
    let fresh = Service::start(NEXT_PROGRAM, &servers, &[&format!("--projections-url={anew}")]).await;
    fresh.client().projections_at(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, digests(&anew, "default").await);
}

fn nats(servers: &Servers) -> String {
    format!("--journal-url={}", servers.nats_url())
}

fn postgres(servers: &Servers) -> String {
    format!("--projections-url={}", servers.postgres_url())
}

/// Waits until something is folded into a generation.
async fn filling(servers: &Servers, number: i32) {
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
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, filled).await.expect("projections are filled anew").expect("closed");
}

/// Clients that ask and report without a break, and write down every request that fails.
struct ConstantClients {
    asking: JoinSet<()>,
    url: watch::Sender<String>,
    answered: Arc<AtomicU64>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
}

impl ConstantClients {
    fn start(url: &str) -> Self {
        let clients = Self {
            asking: JoinSet::new(),
            url: watch::Sender::new(url.to_owned()),
            answered: Arc::default(),
            failed: Arc::default(),
            stopping: Arc::default(),
        };
        let mut all = clients;
        for reader in 0..READERS {
            let asked = [
                "/v1/environments/production/state",
                "/v1/events?limit=20&environment=production",
                "/v1/environments/production/diff?from=-3",
                "/v1/environments/production/points",
            ][reader % 4];
            all.keep(move |client, _| async move { client.get(asked).await });
        }
        for writer in 0..2 {
            all.keep(move |client, number| async move {
                let id = format!("constant-{writer}-{number}");
                let event = deploy(&id, "2026-08-02T10:00:00Z", "production", "constant", &id);
                client.record(&event).await
            });
        }
        all
    }

    fn keep<A: Future<Output = ledger_tests::Answer> + Send>(
        &mut self,
        ask: impl Fn(Client, u64) -> A + Send + 'static,
    ) {
        let (url, answered, failed, stopping) =
            (self.url.subscribe(), self.answered.clone(), self.failed.clone(), self.stopping.clone());
        self.asking.spawn(async move {
            let mut at = url.borrow().clone();
            let mut client = Client::new(&at);
            let mut number = 0;
            while !stopping.load(Ordering::Relaxed) {
                if *url.borrow() != at {
                    at.clone_from(&url.borrow());
                    client = Client::new(&at);
                }
                number += 1;
                let answer = ask(client.clone(), number).await;
                if answer.status >= 300 {
                    failed.lock().expect("no panic").push(format!("{} {}", answer.status, answer.text));
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Waits until so many more requests are answered.
    async fn more(&self, more: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        while self.answered.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// As a balancer does that has learnt of another process.
    fn turn_to(&self, url: &str) {
        self.url.send_replace(url.to_owned());
    }

    fn failed(&self) -> Vec<String> {
        self.failed.lock().expect("no panic").clone()
    }

    async fn stop(self) -> Vec<String> {
        self.stopping.store(true, Ordering::Relaxed);
        self.asking.join_all().await;
        self.failed.lock().expect("no panic").clone()
    }
}
