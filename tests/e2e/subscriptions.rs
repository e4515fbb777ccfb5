//! Subscriptions: entries are delivered in order, signed, each at least once, also when receivers fail and the service is
//! killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledger_tests::{Command, Outcome, Servers, Service, deploy, projections_connection};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PROGRAM;

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Time for what takes longest here: another process may deliver after the lease of a killed one has expired.
const IN_TIME: Duration = Duration::from_secs(90);

/// A request that a receiver has answered.
#[derive(Debug, Clone)]
struct Delivery {
    path: String,
    id: String,
    position: u64,
    status: StatusCode,
}

/// Receivers of all paths on one address.
struct Receivers {
    address: SocketAddr,
    deliveries: Arc<watch::Sender<Vec<Delivery>>>,
}

fn signature(id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(KEY).expect("Base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update([id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat().as_slice());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Answers as the path says: `flaky` fails every fourth time, `hang` never answers, `gone` wants nothing,
/// `broken` always fails.
async fn answer(
    State(deliveries): State<Arc<watch::Sender<Vec<Delivery>>>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert_eq!(header("webhook-signature"), signature(&id, &timestamp, &body));
    let entry: Value = serde_json::from_slice(&body).expect("an entry");
    let position = entry["position"].as_u64().expect("a position");
    let number = deliveries.borrow().len();
    let status = match path.as_str() {
        "hang" => std::future::pending().await,
        "gone" => StatusCode::GONE,
        "broken" => StatusCode::INTERNAL_SERVER_ERROR,
        "flaky" if number % 4 == 1 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    deliveries.send_modify(|all| all.push(Delivery { path, id, position, status }));
    status
}

impl Receivers {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let deliveries = Arc::new(watch::Sender::new(Vec::new()));
        let routes = Router::new().route("/{path}", post(answer)).with_state(Arc::clone(&deliveries));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, deliveries }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Waits until the acknowledged deliveries of a path include a position, and returns its deliveries.
    async fn acknowledged(&self, path: &str, position: u64) -> Vec<Delivery> {
        let mut deliveries = self.deliveries.subscribe();
        let is_last = |it: &Delivery| it.path == path && it.position == position && it.status.is_success();
        let arrived = deliveries.wait_for(|all| all.iter().any(is_last));
        let all = timeout(IN_TIME, arrived).await.expect("in time").expect("open").clone();
        all.into_iter().filter(|it| it.path == path).collect()
    }
}

/// Starts a service that may deliver to this machine. Its settings have the secret `chat`.
async fn start(servers: &Servers, more: &[&str]) -> Service {
    let (file, secret) = (servers.folder().join("ledger.toml"), servers.folder().join("chat.secret"));
    std::fs::write(&secret, format!("whsec_{KEY}\n")).expect("written");
    std::fs::write(&file, format!("[webhooks.secrets.chat]\nfiles = [{secret:?}]\n")).expect("written");
    let config = format!("--config={}", file.display());
    let flags = [&*config, "--webhooks-allow-http=true", "--webhooks-first-delay-ms=100"];
    Service::start(PROGRAM, servers, &[&flags[..], more].concat()).await
}

const ALLOWED: &str = "--webhooks-allow-networks=127.0.0.0/8";

async fn subscription(service: &Service, arguments: &[&str]) -> Outcome {
    let url = format!("--url={}", service.url());
    let all: Vec<&str> =
        ["subscription"].into_iter().chain(arguments.iter().copied()).chain([&*url]).collect();
    Command::start(PROGRAM, &all).outcome().await
}

async fn create(service: &Service, name: &str, url: &str, more: &[&str]) {
    let arguments = [&["create", name, url, "--secret=chat", "--by=ada"][..], more].concat();
    let created = subscription(service, &arguments).await;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
}

/// Records a deploy and returns its position.
async fn record(service: &Service, number: u64, environment: &str) -> u64 {
    let (id, version) = (format!("{environment}-{number}"), format!("v{number}"));
    let event = deploy(&id, "2026-08-01T12:00:00Z", environment, "web", &version);
    service.client().record(&event).await.ok()["position"].as_u64().expect("a position")
}

/// Waits until the service has given up a subscription, and returns the entry that says so.
async fn disabling(service: &Service) -> Value {
    let client = service.client();
    let found = async {
        loop {
            let events = client.get("/v1/events?type=subscription.disabled").await.ok();
            if let Some(event) = events["events"].get(0) {
                break event.clone();
            }
            // The service decides on its own schedule: poll.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(IN_TIME, found).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_left_out_or_reordered_when_the_service_is_killed_and_the_receiver_fails() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let mut service = start(&servers, &[ALLOWED]).await;
    create(&service, "production", &receivers.url("flaky"), &["--environment=production"]).await;

    let mut expected = Vec::new();
    for number in 0..12 {
        expected.push(record(&service, number, "production").await);
        record(&service, number, "staging").await;
    }
    receivers.acknowledged("flaky", expected[5]).await;
    service.kill().await;
    service.restart().await;
    for number in 12..20 {
        expected.push(record(&service, number, "production").await);
    }
    receivers.acknowledged("flaky", expected[14]).await;
    service.terminate().await;
    service.restart().await;
    let deliveries = receivers.acknowledged("flaky", expected[19]).await;

    let mut acknowledged: Vec<u64> =
        deliveries.iter().filter(|it| it.status.is_success()).map(|it| it.position).collect();
    // What was in flight when the service was killed is repeated.
    acknowledged.dedup();
    assert_eq!(acknowledged, expected);
    let ids: BTreeMap<u64, BTreeSet<&str>> = deliveries.iter().fold(BTreeMap::new(), |mut ids, it| {
        ids.entry(it.position).or_insert_with(BTreeSet::new).insert(it.id.as_str());
        ids
    });
    assert!(ids.values().all(|ids| ids.len() == 1), "each entry has one identity: {ids:?}");
    let distinct: BTreeSet<_> = ids.values().flatten().collect();
    assert_eq!(distinct.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_delays_no_other_one() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[ALLOWED, "--webhooks-timeout-seconds=20"]).await;
    create(&service, "hangs", &receivers.url("hang"), &["--type=deploy.succeeded"]).await;
    create(&service, "works", &receivers.url("ok"), &["--type=deploy.succeeded"]).await;

    for number in 0..5 {
        let position = record(&service, number, "production").await;
        timeout(Duration::from_secs(15), receivers.acknowledged("ok", position))
            .await
            .expect("without delay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_disables_its_subscription_until_it_is_replaced() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[ALLOWED]).await;
    create(&service, "chat", &receivers.url("gone"), &["--type=deploy.succeeded"]).await;
    let first = record(&service, 1, "production").await;

    let disabled = disabling(&service).await;
    let second = record(&service, 2, "production").await;
    let again =
        subscription(&service, &["create", "chat", &receivers.url("ok"), "--secret=chat", "--by=ada"]).await;
    create(&service, "chat", &receivers.url("ok"), &["--type=deploy.succeeded", "--replace"]).await;
    let deliveries = receivers.acknowledged("ok", second).await;

    let data = &disabled["event"]["data"];
    assert_eq!(data["reason"], "the receiver wants no deliveries (status 410)", "{disabled}");
    assert_eq!(
        (&data["subscription"], &data["delivered_position"]),
        (&json!("chat"), &json!(first - 1)),
        "{disabled}"
    );
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("subscription chat exists"), "{}", again.stderr);
    assert_eq!(deliveries.iter().map(|it| it.position).collect::<Vec<_>>(), [first, second]);
    let removed = subscription(&service, &["remove", "chat", "--by=ada"]).await;
    let removed_again = subscription(&service, &["remove", "chat", "--by=ada"]).await;
    assert_eq!((removed.code, removed_again.code), (Some(0), Some(1)));
    assert!(removed_again.stderr.contains("subscription chat does not exist"), "{}", removed_again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_for_long_is_given_up_and_the_ledger_says_why() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[ALLOWED, "--webhooks-give-up-seconds=1"]).await;
    create(&service, "chat", &receivers.url("broken"), &["--type=deploy.succeeded"]).await;
    record(&service, 1, "production").await;

    let disabled = disabling(&service).await;
    let shown = subscription(&service, &["show", "chat"]).await;

    let reason = disabled["event"]["data"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("no delivery succeeded for "), "{reason}");
    assert!(reason.ends_with("; the last failure: status 500"), "{reason}");
    assert!(shown.stdout.contains("disabled at position "), "{}", shown.stdout);
    assert!(receivers.deliveries.borrow().len() > 1, "it was tried more than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_address_receives_nothing_and_the_log_of_attempts_says_why() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[]).await;
    create(&service, "chat", &receivers.url("ok"), &["--type=deploy.succeeded"]).await;
    let position = record(&service, 1, "production").await;

    let attempts = timeout(IN_TIME, async {
        loop {
            let attempts = subscription(&service, &["deliveries", "chat", "--json"]).await;
            let body: Value = serde_json::from_str(&attempts.stdout).expect("JSON");
            if body["deliveries"].as_array().is_some_and(|all| !all.is_empty()) {
                break body;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let attempts = attempts.await.expect("in time");
    let shown = subscription(&service, &["show", "chat"]).await;

    let attempt = &attempts["deliveries"][0];
    let error = attempt["error"].as_str().expect("an error");
    assert!(error.contains("127.0.0.1, which is not public"), "{attempt}");
    assert_eq!((&attempt["position"], &attempt["status"]), (&json!(position), &Value::Null), "{attempt}");
    assert!(shown.stdout.contains(&format!("next is position {position}, ")), "{}", shown.stdout);
    assert!(receivers.deliveries.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_filter_delivers_nothing_that_the_previous_one_had_excluded() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[ALLOWED]).await;
    create(&service, "chat", &receivers.url("narrow"), &["--environment=production"]).await;
    let first = record(&service, 1, "production").await;
    receivers.acknowledged("narrow", first).await;
    record(&service, 2, "staging").await;

    create(&service, "chat", &receivers.url("wide"), &["--type=deploy", "--replace"]).await;
    let next = record(&service, 3, "staging").await;
    let deliveries = receivers.acknowledged("wide", next).await;

    assert_eq!(deliveries.iter().map(|it| it.position).collect::<Vec<_>>(), [next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_repeats_no_delivery() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let service = start(&servers, &[ALLOWED, "--projections-grace-seconds=1"]).await;
    create(&service, "chat", &receivers.url("ok"), &["--type=deploy.succeeded"]).await;
    let mut expected = Vec::new();
    for number in 0..5 {
        expected.push(record(&service, number, "production").await);
    }
    receivers.acknowledged("ok", expected[4]).await;

    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let rebuild = ["projections", "rebuild", urls[0].as_str(), urls[1].as_str()];
    let rebuilt = Command::start(PROGRAM, &rebuild).outcome().await;
    for number in 5..10 {
        expected.push(record(&service, number, "production").await);
    }
    let deliveries = receivers.acknowledged("ok", expected[9]).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_eq!(deliveries.iter().map(|it| it.position).collect::<Vec<_>>(), expected);
}

/// As after a restore of an older copy of the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_position_before_the_subscription_does_not_stop_its_deliveries() {
    let servers = Servers::start().await;
    let receivers = Receivers::start().await;
    let mut service = start(&servers, &[ALLOWED]).await;
    create(&service, "chat", &receivers.url("ok"), &["--type=deploy.succeeded"]).await;
    let first = record(&service, 1, "production").await;
    receivers.acknowledged("ok", first).await;
    service.terminate().await;
    let mut registry = projections_connection(&servers.postgres_url(), "default").await;
    let set_back = "UPDATE release_ledger.followers SET position = 0 WHERE name LIKE 'webhook/%'";
    let changed = sqlx::query(set_back).execute(&mut registry).await.expect("set back");
    let removed = "INSERT INTO release_ledger.followers VALUES ('default', 'webhook/removed@1', 1)";
    sqlx::query(removed).execute(&mut registry).await.expect("inserted");

    service.restart().await;
    let second = record(&service, 2, "production").await;
    let deliveries = receivers.acknowledged("ok", second).await;

    assert_eq!(changed.rows_affected(), 1);
    assert_eq!(deliveries.iter().map(|it| it.position).collect::<Vec<_>>(), [first, first, second]);
    assert_eq!(deliveries[0].id, deliveries[1].id);
    let left = "SELECT count(*) FROM release_ledger.followers WHERE name LIKE 'webhook/removed%'";
    let forgotten = async {
        loop {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&mut registry).await.expect("a count");
            if left == 0 {
                break;
            }
            // The service forgets them after it has started to deliver: poll.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(IN_TIME, forgotten).await.expect("the deliveries of a removed subscription are forgotten");
}
