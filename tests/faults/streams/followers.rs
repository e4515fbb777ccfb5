//! Many clients follow the ledger by server-sent events, over a kill of the service and a rebuild of the projections.

use std::time::{Duration, Instant};

use ledger_tests::{Client, Command, Servers, deploy, projections_schema};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::part::{self, PROGRAM, WAIT_LIMIT};

/// Number of clients.
const CLIENTS: usize = 500;
/// Number of entries; a multiple of the six combinations of environment and service.
const ENTRIES: u64 = 360;
/// Maximum resident memory of the service, in MiB: `ops/guides/live.md` states it.
const MAX_MEMORY: u64 = 400;
/// Delay of a client before it connects again.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// Receive buffer of the slow client, in bytes, and its pause after each read of up to 1 KiB.
const SLOW: (u32, Duration) = (4_096, Duration::from_millis(25));

/// Path of a stream, and the condition that the positions of its entries meet.
type Stream = (&'static str, fn(u64) -> bool);
/// Streams that the clients follow, in turn.
const STREAMS: [Stream; 4] = [
    ("/v1/events/stream", |_| true),
    ("/v1/events/stream?environment=production", |position| position.is_multiple_of(2)),
    ("/v1/events/stream?service=api", |position| position.is_multiple_of(3)),
    ("/v1/events/stream?environment=production&service=api", |position| position.is_multiple_of(6)),
];

/// Kills and restarts the service while entries are recorded, and rebuilds the projections afterwards: no client misses
/// or repeats a position. Client 0 reads slowly.
pub(crate) async fn clients_follow() {
    let began = Instant::now();
    let servers = Servers::start().await;
    let mut service = part::start(&servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    let mut registry = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let before = projections_schema(&mut registry, "default").await;
    record(&client, 1..61).await;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let address = service.url().trim_start_matches("http://").to_owned();
        clients.spawn(async move { (number, follow(&address, number).await) });
    }
    client.wait_for_metric("ledger_http_followers", CLIENTS as f64).await;

    record(&client, 61..121).await;
    let first_memory = service.peak_memory();
    service.kill().await;
    service.restart().await;
    record(&client, 121..181).await;
    rebuild(&servers, &client).await;
    record(&client, 241..ENTRIES + 1).await;

    let (mut delivered, mut connections) = (0, 0);
    while let Some(followed) = timeout(WAIT_LIMIT, clients.join_next()).await.expect("all clients end") {
        let (number, followed) = followed.expect("the client does not panic");
        let (path, selects) = STREAMS[number % STREAMS.len()];
        let expected: Vec<u64> = (1..=ENTRIES).filter(|position| selects(*position)).collect();
        assert_eq!(followed.positions, expected, "client {number} of {path}");
        delivered += followed.positions.len();
        connections += followed.connections;
    }
    assert_ne!(projections_schema(&mut registry, "default").await, before, "the rebuild has switched");
    let memory = first_memory.max(service.peak_memory()) >> 20;
    assert!(memory < MAX_MEMORY, "{memory} MiB");
    println!(
        "event streams: {CLIENTS} clients, {connections} connections over a kill and a rebuild, {delivered} entries, \
         none missed or repeated; at most {memory} MiB of memory; {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

/// Records the entries of these positions: environment and service depend on the position.
async fn record(client: &Client, positions: std::ops::Range<u64>) {
    let lines: Vec<String> = positions
        .map(|position| {
            let environment = if position.is_multiple_of(2) { "production" } else { "staging" };
            let service = if position.is_multiple_of(3) { "api" } else { "web" };
            let (id, version) = (format!("e-{position}"), format!("v{position}"));
            deploy(&id, "2026-08-01T10:00:00Z", environment, service, &version).to_string()
        })
        .collect();
    client.record_all(&lines).await;
}

/// Rebuilds the projections while entries are recorded.
async fn rebuild(servers: &Servers, client: &Client) {
    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let rebuild = ["projections", "rebuild", &urls[0], &urls[1], "--log-filter=warn"];
    let rebuild = Command::start(PROGRAM, &rebuild);
    record(client, 181..241).await;
    let rebuilt = rebuild.outcome().await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
}

/// Entries that a client has received.
struct Followed {
    positions: Vec<u64>,
    connections: usize,
}

/// Follows a stream until its last entry, and continues after the last id whenever the connection ends.
async fn follow(address: &str, number: usize) -> Followed {
    let (path, selects) = STREAMS[number % STREAMS.len()];
    let last = (1..=ENTRIES).rfind(|position| selects(*position)).expect("entries");
    let mut received = Received { positions: Vec::new(), last_id: 0, rest: Vec::new() };
    let mut connections = 0;
    while received.positions.last() != Some(&last) {
        received.rest.clear();
        if let Some(connection) = connect(address, path, received.last_id, number == 0).await {
            connections += 1;
            receive(connection, &mut received, last, number == 0).await;
        }
        if received.positions.last() != Some(&last) {
            sleep(RECONNECT_DELAY).await;
        }
    }
    Followed { positions: received.positions, connections }
}

/// Connects and requests a stream after an id; `None` if the service does not listen. HTTP/1.0: the body has no chunks.
async fn connect(address: &str, path: &str, after: u64, is_slow: bool) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    if is_slow {
        socket.set_recv_buffer_size(SLOW.0).expect("a small buffer");
    }
    let mut connection = socket.connect(address.parse().expect("an address")).await.ok()?;
    let head = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\nlast-event-id: {after}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.ok()?;
    Some(connection)
}

/// Reads a connection until the last entry, or until it ends. An answer other than 200 ends it without an event.
async fn receive(mut connection: TcpStream, received: &mut Received, last: u64, is_slow: bool) {
    let mut buffer = vec![0; if is_slow { 1_024 } else { 16 * 1_024 }];
    while received.positions.last() != Some(&last) {
        let read = timeout(WAIT_LIMIT, connection.read(&mut buffer)).await.expect("entries, or the end");
        let Ok(length @ 1..) = read else { return };
        received.take(&buffer[..length]);
        if is_slow {
            sleep(SLOW.1).await;
        }
    }
}

/// Events of all connections of a client.
struct Received {
    positions: Vec<u64>,
    /// Last id, also of an event without an entry.
    last_id: u64,
    /// Bytes after the last complete event.
    rest: Vec<u8>,
}

impl Received {
    /// Takes bytes of a stream. The head of the answer is part of its first event.
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.windows(2).rposition(|pair| pair == b"\n\n") else { return };
        let complete: Vec<u8> = self.rest.drain(..end + 2).collect();
        let text = String::from_utf8(complete).expect("UTF-8");
        for event in text.split("\n\n") {
            let field =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            let Some(id) = field("id:") else { continue };
            self.last_id = id.parse().expect("a position");
            // Another event with an id says only up to where all entries have been sent.
            if field("event:") != Some("position") {
                self.positions.push(self.last_id);
            }
        }
    }
}
