//! Effects of an attack on other clients, by probes and by events of a client that does nothing unusual.

use std::fmt;
use std::time::{Duration, Instant};

use ledger_tests::{Client, deploy};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::target::{Target, memory_mib};

/// Interval between probes, and between events.
const INTERVAL: Duration = Duration::from_millis(50);

/// Maximum resident memory of the service, in MiB.
pub(crate) const MAX_MEMORY_MIB: u64 = 400;
/// Maximum time in which 99 of 100 probes of `/livez` are answered.
pub(crate) const MAX_LIVEZ: Duration = Duration::from_millis(100);
/// Maximum time in which an event of another client is acknowledged.
pub(crate) const MAX_ACKNOWLEDGED: Duration = Duration::from_secs(1);

/// Effects of an attack on other clients.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Time within which 99 of 100 probes of `/livez` were answered.
    pub(crate) livez_p99: Duration,
    /// Time within which 99 of 100 events were acknowledged.
    pub(crate) acknowledged_p99: Duration,
    /// Longest time until an event was acknowledged.
    pub(crate) slowest_acknowledged: Duration,
    /// Highest resident memory of the service, in MiB.
    pub(crate) memory_mib: u64,
    /// Number of events that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Number of events that were not acknowledged.
    pub(crate) refused: usize,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { livez_p99, acknowledged_p99, slowest_acknowledged, memory_mib, acknowledged, refused } =
            self;
        write!(
            f,
            "livez p99 {livez_p99:.0?} (limit {MAX_LIVEZ:?}), slowest event {slowest_acknowledged:.0?} (limit \
             {MAX_ACKNOWLEDGED:?}), p99 {acknowledged_p99:.0?}, {refused} of {} events refused, memory {memory_mib} MiB (limit \
             {MAX_MEMORY_MIB} MiB)",
            acknowledged + refused
        )
    }
}

/// Tasks that watch a service.
pub(crate) struct Watch {
    stop: CancellationToken,
    livez: JoinHandle<Vec<Duration>>,
    events: JoinHandle<(Vec<Duration>, usize)>,
    memory: JoinHandle<u64>,
}

impl Watch {
    pub(crate) fn start(target: &Target) -> Self {
        let stop = CancellationToken::new();
        let livez = tokio::spawn(probe(target.new_client(), stop.clone()));
        let events = tokio::spawn(record(target.new_client(), stop.clone()));
        let memory = tokio::spawn(measure_memory(target.service.pid(), stop.clone()));
        Self { stop, livez, events, memory }
    }

    pub(crate) async fn end(self) -> Watched {
        self.stop.cancel();
        let mut livez = self.livez.await.expect("the probes end");
        let (mut acknowledged, refused) = self.events.await.expect("the events end");
        livez.sort_unstable();
        acknowledged.sort_unstable();
        let p99 = |sorted: &[Duration]| sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default();
        Watched {
            livez_p99: p99(&livez),
            acknowledged_p99: p99(&acknowledged),
            slowest_acknowledged: acknowledged.last().copied().unwrap_or_default(),
            memory_mib: self.memory.await.expect("the measurements end"),
            acknowledged: acknowledged.len(),
            refused,
        }
    }
}

/// Waits for the interval; returns false once the watch ends.
async fn goes_on(stop: &CancellationToken) -> bool {
    tokio::time::timeout(INTERVAL, stop.cancelled()).await.is_err()
}

async fn probe(client: Client, stop: CancellationToken) -> Vec<Duration> {
    let mut times = Vec::new();
    while goes_on(&stop).await {
        let started = Instant::now();
        let answered = client.get("/livez").await.status == 200;
        assert!(answered, "/livez answers");
        times.push(started.elapsed());
    }
    times
}

async fn record(client: Client, stop: CancellationToken) -> (Vec<Duration>, usize) {
    let mut times = Vec::new();
    let mut refused = 0;
    while goes_on(&stop).await {
        let id = format!("watch-{}", times.len() + refused);
        let event = deploy(&id, "2026-08-01T10:00:00Z", "watched", "web", &id);
        let started = Instant::now();
        match client.record(&event).await.status {
            201 => times.push(started.elapsed()),
            _ => refused += 1,
        }
    }
    (times, refused)
}

/// Measures the resident memory, and returns the highest value in MiB.
async fn measure_memory(pid: u32, stop: CancellationToken) -> u64 {
    let mut highest = 0;
    while goes_on(&stop).await {
        highest = highest.max(memory_mib(pid));
    }
    highest
}
