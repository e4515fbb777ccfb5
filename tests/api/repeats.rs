//! Repeated events, and the identities in memory: the write paths of processes that share a journal and a Postgres. The
//! journal has a duplicate window, and the tests set the wall clock, so that it passes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Position, TenantName};
use ledger_ingest::{Ingest, RecordOutcome};
use ledger_journal::{MemoryJournal, SharedJournal};
use ledger_projections::{
    ProjectionSupervisor, Projections, SchemaVersion, Settings, SupervisorConfig, Waited,
};
use ledger_tests::{Servers, deploy};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for a condition.
const LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Duplicate window of the journal.
const WINDOW: Duration = Duration::from_secs(120);
/// Seconds after which the journal does not find an identity any more.
const AFTER_WINDOW: i64 = 130;

type Clock = fn() -> DateTime<Utc>;

/// Returns a clock of the calling test's own, and the seconds by which it is ahead.
macro_rules! own_clock {
    () => {{
        static AHEAD: AtomicI64 = AtomicI64::new(0);
        fn clock() -> DateTime<Utc> {
            release_ledger::clock::now() + TimeDelta::seconds(AHEAD.load(Ordering::Relaxed))
        }
        (clock as Clock, &AHEAD)
    }};
}

fn advance(ahead: &AtomicI64, seconds: i64) {
    ahead.fetch_add(seconds, Ordering::Relaxed);
}

fn journal(clock: Clock) -> MemoryJournal {
    MemoryJournal::new(TenantName::default(), clock).with_duplicate_window(WINDOW)
}

fn settings(servers: &Servers) -> Settings {
    Settings {
        url: servers.postgres_url().into(),
        connections: 4,
        acquire_timeout: LIMIT,
        schema_version: SchemaVersion::CURRENT,
    }
}

/// A process that records events, and projects if it has a supervisor.
struct Process {
    journal: SharedJournal,
    projections: Projections,
    ingest: Ingest,
    supervisor: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Process {
    fn open(servers: &Servers, journal: &SharedJournal, clock: Clock) -> Self {
        let projections = Projections::new(&settings(servers), TenantName::default()).expect("projections");
        let journal = Arc::clone(journal);
        let (ingest, _) =
            Ingest::open(TenantName::default(), Arc::clone(&journal), projections.clone(), clock);
        Self { journal, projections, ingest, supervisor: None }
    }

    /// Starts to project, as a worker with this number.
    fn project(&mut self, worker: u128) {
        let config = SupervisorConfig {
            worker_id: Uuid::from_u128(worker),
            runs_projectors: true,
            retired_retention: LIMIT,
            outdated_retention: LIMIT,
        };
        let ledgers = vec![(self.projections.clone(), Arc::clone(&self.journal))];
        let supervisor = ProjectionSupervisor::new(config, ledgers);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(supervisor.run(cancel.clone()));
        self.supervisor = Some((cancel, task));
    }

    /// Lets another process project.
    async fn stop_projecting(&mut self) {
        let (cancel, task) = self.supervisor.take().expect("the process projects");
        cancel.cancel();
        timeout(LIMIT, task).await.expect("the supervisor ends in time").expect("it does not panic");
    }

    /// Records the events with these ids.
    async fn record(&self, ids: impl IntoIterator<Item = u64>) -> Vec<RecordOutcome> {
        self.ingest.record(ids.into_iter().map(event).collect()).await
    }

    fn has_in_memory(&self, position: u64) -> bool {
        self.projections.possibly_known(&[], Position::new(position)).is_some()
    }

    /// Waits until the identities up to a position are in memory.
    async fn wait_for_memory(&self, position: u64) {
        wait_until(|| self.has_in_memory(position)).await;
    }

    async fn wait_for_projections(&self, position: u64) {
        let reached = async {
            let position = Position::new(position);
            while !matches!(self.projections.wait_for(position, LIMIT).await, Ok(Waited::Reached)) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(LIMIT, reached).await.expect("the projections reach the position");
    }
}

async fn wait_until(condition: impl Fn() -> bool) {
    let satisfied = async {
        while !condition() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    timeout(LIMIT, satisfied).await.expect("the condition is satisfied in time");
}

/// Returns an event; in these tests its id is the position at which it is recorded.
fn event(id: u64) -> Envelope {
    let event = deploy(&id.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{id}"));
    Envelope::parse(event.to_string().as_bytes()).expect("an event")
}

fn recorded(positions: impl IntoIterator<Item = u64>) -> Vec<RecordOutcome> {
    positions.into_iter().map(|position| RecordOutcome::Recorded(Position::new(position))).collect()
}

fn duplicates(positions: impl IntoIterator<Item = u64>) -> Vec<RecordOutcome> {
    positions.into_iter().map(|position| RecordOutcome::Duplicate(Position::new(position))).collect()
}

/// Returns the number of events that were found new without a look-up in Postgres.
fn found_new_in_memory(metrics: &PrometheusHandle) -> u64 {
    let text = metrics.render();
    let line = text.lines().find(|line| line.starts_with("ledger_ingest_filtered_total{"));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn new_events_are_found_in_memory_only_with_a_recent_head_and_a_long_enough_window() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (clock, ahead) = own_clock!();
    let servers = Servers::start().await;
    let memory_journal = journal(clock);
    let shared: SharedJournal = Arc::new(memory_journal.clone());
    let mut process = Process::open(&servers, &shared, clock);
    process.project(1);
    process.wait_for_memory(0).await;

    // No head is known yet.
    assert_eq!(process.record([1]).await, recorded([1]));
    assert_eq!(found_new_in_memory(&metrics), 0);
    process.wait_for_memory(1).await;
    assert_eq!(process.record([2]).await, recorded([2]));
    assert_eq!(found_new_in_memory(&metrics), 1);

    // The machine was suspended: the monotonic clock stood still.
    process.wait_for_memory(2).await;
    advance(ahead, 41);
    assert_eq!(process.record([3]).await, recorded([3]));
    assert_eq!(found_new_in_memory(&metrics), 1);
    process.wait_for_memory(3).await;
    assert_eq!(process.record([4, 1]).await, [recorded([4]), duplicates([1])].concat());
    assert_eq!(found_new_in_memory(&metrics), 2);

    let shorter: SharedJournal = Arc::new(memory_journal.with_duplicate_window(Duration::from_secs(119)));
    let (ingest, _) = Ingest::open(TenantName::default(), shorter, process.projections.clone(), clock);
    for id in 5..=7 {
        assert_eq!(ingest.record(vec![event(id)]).await, recorded([id]));
        process.wait_for_memory(id).await;
    }
    assert_eq!(found_new_in_memory(&metrics), 2);
}

#[tokio::test]
async fn identities_stay_in_memory_when_a_replica_is_activated() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (clock, _) = own_clock!();
    let servers = Servers::start().await;
    let journal: SharedJournal = Arc::new(journal(clock));
    let mut process = Process::open(&servers, &journal, clock);
    process.project(1);
    process.wait_for_memory(0).await;
    assert_eq!(process.record([1]).await, recorded([1]));
    process.wait_for_memory(1).await;

    let history_epoch = process.projections.history_epoch();
    let replica = process.projections.for_replica(&settings(&servers)).expect("a replica");
    replica.activate_live().await.expect("a live generation");

    assert!(process.projections.history_epoch() > history_epoch);
    // What was noted of the history before is not used.
    assert_eq!(process.record([2]).await, recorded([2]));
    assert_eq!(found_new_in_memory(&metrics), 0);
    process.wait_for_memory(2).await;
    assert_eq!(process.record([3]).await, recorded([3]));
    assert_eq!(found_new_in_memory(&metrics), 1);
}

#[tokio::test]
async fn repeats_are_found_by_both_processes_across_handovers() {
    let (clock, ahead) = own_clock!();
    let servers = Servers::start().await;
    let journal: SharedJournal = Arc::new(journal(clock));
    let mut processes = [(); 2].map(|()| Process::open(&servers, &journal, clock));
    processes[0].project(1);
    processes[0].wait_for_memory(0).await;
    processes[1].projections.activate_live().await.expect("a live generation");
    let mut head = 0;

    for round in 0..4 {
        let (owner, next) = (round % 2, 1 - round % 2);
        let [before, by_next, after, last] = [1, 2, 3, 4].map(|number| head + number);
        assert_eq!(processes[owner].record([before]).await, recorded([before]));
        processes[owner].wait_for_memory(before).await;

        processes[owner].stop_projecting().await;
        // A process that does not follow asks Postgres.
        wait_until(|| !processes[owner].has_in_memory(before)).await;
        assert_eq!(processes[next].record([by_next]).await, recorded([by_next]));
        assert_eq!(processes[owner].record([by_next]).await, duplicates([by_next]));
        processes[next].project(round as u128 + 2);
        processes[next].wait_for_projections(by_next).await;
        advance(ahead, AFTER_WINDOW);
        // Both processes note a head after the window.
        assert_eq!(processes[owner].record([after]).await, recorded([after]));
        assert_eq!(processes[next].record([last]).await, recorded([last]));
        processes[next].wait_for_memory(last).await;

        for process in &processes {
            assert_eq!(process.record(1..=last).await, duplicates(1..=last), "round {round}");
        }
        head = last;
    }
}

#[tokio::test]
async fn repeats_are_found_after_a_restart_while_the_identities_are_loaded() {
    let (clock, ahead) = own_clock!();
    let servers = Servers::start().await;
    let journal: SharedJournal = Arc::new(journal(clock));
    let mut first = Process::open(&servers, &journal, clock);
    first.project(1);
    first.wait_for_memory(0).await;
    let before = 50;
    assert_eq!(first.record(1..=before).await, recorded(1..=before));
    first.wait_for_projections(before).await;
    first.stop_projecting().await;
    drop(first);
    advance(ahead, AFTER_WINDOW);

    let mut second = Process::open(&servers, &journal, clock);
    second.projections.activate_live().await.expect("a live generation");
    second.project(2);
    let mut head = before;
    let load = async {
        loop {
            head += 1;
            assert_eq!(second.record([head]).await, recorded([head]));
            assert_eq!(second.record(1..=before).await, duplicates(1..=before));
            if second.has_in_memory(head) {
                break;
            }
        }
    };
    timeout(LIMIT, load).await.expect("the identities are loaded");

    let again = second.record((1..=before).chain([head + 1])).await;
    assert_eq!(again, [duplicates(1..=before), recorded([head + 1])].concat());
}
