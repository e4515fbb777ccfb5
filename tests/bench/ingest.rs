//! Ingest over HTTP, with and without projection, beside publishing the same bytes to NATS directly.
//!
//! The floor and each program take turns in slices of the same events, and a slice lasts until the projections have it.
//! The figures are medians over the rounds: what disturbs the machine for a while disturbs all of them.

use std::time::{Duration, Instant};

use ledger_codec::cloudevents::Envelope;
use ledger_tests::{Client, Servers, Service};

use crate::conditions::Program;
use crate::cpu::{Cpu, Measured, Meter, median};
use crate::load::{messages, post, publish_batches, raw_client, report_events, send_all};
use crate::report::{Cost, Report};

/// Maximum of the peak memory of a service, in MiB.
pub(crate) const MEMORY_LIMIT: f64 = 200.0;

/// Sizes of the slices.
pub(crate) struct Size {
    /// Rounds, in each of which the floor and each program have one slice.
    pub(crate) rounds: usize,
    /// Events of a slice in batches.
    pub(crate) batched: usize,
    /// Events of a slice of one event a request.
    pub(crate) singles: usize,
}

/// A way to send events, its floor and its goals.
struct Part {
    name: &'static str,
    /// Prefix of the tenants.
    tenant: &'static str,
    /// Flag with the roles of the service; `None`: all roles.
    roles: Option<&'static str>,
    events_a_request: usize,
    connections: usize,
    /// Events of each atomic batch of the floor, one of which is in flight.
    floor_batch: usize,
    is_projecting: bool,
    /// Minimum ratio of the rate to that of the floor.
    ratio: Option<f64>,
    /// Maximum CPU time of an event without the load generator, in microseconds.
    cpu: f64,
}

const PARTS: [Part; 4] = [
    Part {
        name: "batches of 500 over HTTP, no projection",
        tenant: "batches",
        roles: Some("--only=http"),
        events_a_request: 500,
        connections: 8,
        floor_batch: 1_000,
        is_projecting: false,
        ratio: Some(0.75),
        cpu: 34.0,
    },
    Part {
        name: "batches of 500 over HTTP, projecting",
        tenant: "batches-projecting",
        roles: Some("--only=http,projector"),
        events_a_request: 500,
        connections: 8,
        floor_batch: 1_000,
        is_projecting: true,
        ratio: Some(0.6),
        cpu: 75.0,
    },
    Part {
        name: "singles over 64 connections, no projection",
        tenant: "singles",
        roles: Some("--only=http"),
        events_a_request: 1,
        connections: 64,
        floor_batch: 64,
        is_projecting: false,
        ratio: None,
        cpu: 80.0,
    },
    Part {
        name: "singles over 64 connections, projecting",
        tenant: "singles-projecting",
        roles: None,
        events_a_request: 1,
        connections: 64,
        floor_batch: 64,
        is_projecting: true,
        ratio: Some(0.6),
        cpu: 150.0,
    },
];

/// Rate and CPU time of a slice.
struct Slice {
    events_per_second: f64,
    per_event: Cpu,
}

impl Slice {
    fn new(events: usize, time: Duration, cpu: Cpu) -> Self {
        let events_per_second = events as f64 / time.as_secs_f64();
        Self { events_per_second, per_event: cpu.per_event(events) }
    }
}

/// Slices of the floor or of a program.
#[derive(Default)]
struct Slices(Vec<Slice>);

impl Slices {
    fn events_per_second(&self) -> f64 {
        median(&self.0.iter().map(|slice| slice.events_per_second).collect::<Vec<_>>())
    }

    fn per_event(&self) -> Cpu {
        Cpu::median(&self.0.iter().map(|slice| slice.per_event).collect::<Vec<_>>())
    }
}

/// A running program with a tenant and a database of its own, so that the programs may have different schemas.
struct Run {
    label: &'static str,
    tenant: String,
    database: String,
    service: Service,
    client: Client,
    slices: Slices,
}

/// Measures all parts with all programs, the first of which is the measured one.
pub(crate) async fn measure(servers: &Servers, size: &Size, programs: &[Program<'_>], report: &mut Report) {
    let mut meter = Meter::start(servers).await;
    for part in &PARTS {
        part.measure(servers, &mut meter, size, programs, report).await;
    }
}

impl Part {
    async fn measure(
        &self,
        servers: &Servers,
        meter: &mut Meter,
        size: &Size,
        programs: &[Program<'_>],
        report: &mut Report,
    ) {
        let slice = if self.events_a_request > 1 { size.batched } else { size.singles };
        let events = report_events(slice * size.rounds);
        let floor_tenant = format!("floor-{}", self.tenant);
        let client = raw_client(servers, &floor_tenant).await;
        let mut runs = Vec::new();
        for program in programs {
            runs.push(Run::start(self, servers, *program).await);
        }
        let mut floor = Slices::default();
        for (round, events) in events.chunks(slice).enumerate() {
            let messages = messages(&floor_tenant, events);
            let before = meter.sample(Measured::Nothing, "").await;
            let time = publish_batches(&client, &messages, self.floor_batch).await;
            let cpu = before.until(&meter.sample(Measured::Nothing, "").await);
            floor.0.push(Slice::new(events.len(), time, cpu));
            // The programs change places, so that none always follows the floor.
            let mut order: Vec<&mut Run> = runs.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for run in order {
                run.measure_slice(self, meter, events).await;
            }
        }
        self.report(&runs, &floor, report);
        for run in &mut runs {
            run.service.kill().await;
        }
    }

    fn report(&self, runs: &[Run], floor: &Slices, report: &mut Report) {
        let name = self.name;
        for run in runs {
            // Goals are those of the measured program.
            let is_ours = run.label == runs[0].label;
            let label = if is_ours { String::new() } else { format!(", {}", run.label) };
            let (baseline, rate) = (floor.events_per_second(), run.slices.events_per_second());
            report.rate(&format!("events/s, {name}{label}"), baseline, rate, self.ratio.filter(|_| is_ours));
            if !is_ours {
                let ours = runs[0].slices.events_per_second();
                report.rate(&format!("events/s, {name}, ours beside the other"), rate, ours, None);
            }
            let peak = mebibytes(run.service.peak_memory());
            report.size(&format!("peak memory, {name}{label}"), MEMORY_LIMIT, peak);
            let goal = is_ours.then_some(self.cpu);
            let per_event = run.slices.per_event();
            report.cost(Cost { name: name.to_owned(), program: run.label, per_event, goal });
        }
        if let [ours, others @ ..] = runs {
            for other in others {
                let (theirs, ours) = (other.slices.per_event().sum(), ours.slices.per_event().sum());
                report.cpu_beside(&format!("CPU µs/event, {name}, ours beside the other"), theirs, ours);
            }
        }
        report.cost(Cost {
            name: name.to_owned(),
            program: "floor",
            per_event: floor.per_event(),
            goal: None,
        });
    }

    /// Returns the requests that send events to a tenant.
    fn requests(&self, tenant: &str, events: &[Envelope]) -> Vec<Vec<u8>> {
        let request = |events: &[Envelope]| match events {
            [event] if self.events_a_request == 1 => post("application/cloudevents+json", event.bytes()),
            batch => post("application/x-ndjson", &lines(batch)),
        };
        events.chunks(self.events_a_request).map(|events| for_tenant(request(events), tenant)).collect()
    }
}

impl Run {
    async fn start(part: &Part, servers: &Servers, program: Program<'_>) -> Self {
        let tenant = format!("{}-{}", part.tenant, program.label);
        let database = tenant.replace('-', "_");
        let projections = format!("--projections-url={}", servers.fresh_database(&database).await);
        let tenants = format!("--tenants={tenant}");
        let flags: Vec<&str> = [&*tenants, &*projections].into_iter().chain(part.roles).collect();
        let service = Service::start(program.path, servers, &flags).await;
        let client = service.client();
        Self { label: program.label, tenant, database, service, client, slices: Slices::default() }
    }

    async fn measure_slice(&mut self, part: &Part, meter: &mut Meter, events: &[Envelope]) {
        let requests = part.requests(&self.tenant, events);
        let measured = Measured::Service(self.service.pid());
        let before = meter.sample(measured, &self.database).await;
        let mut time = send_all(&self.service.url(), requests, part.connections).await;
        if part.is_projecting {
            time += self.wait_until_projected().await;
        }
        let cpu = before.until(&meter.sample(measured, &self.database).await);
        self.slices.0.push(Slice::new(events.len(), time, cpu));
    }

    /// Waits until the projections have all entries, and returns the time.
    async fn wait_until_projected(&self) -> Duration {
        let began = Instant::now();
        let path = format!("/v1/tenants/{}/position", self.tenant);
        let head = self.client.get(&path).await.ok()["head"].as_u64().expect("a position");
        let wait = format!("{path}?wait_for={head}&wait_ms=30000");
        while self.client.get(&wait).await.status != 200 {}
        began.elapsed()
    }
}

/// Returns the body of a batch: an event in each line.
pub(crate) fn lines(batch: &[Envelope]) -> Vec<u8> {
    batch.iter().flat_map(|event| [event.bytes(), b"\n".as_slice()]).flatten().copied().collect()
}

/// Changes the path of a request made by `post` to that of a tenant.
fn for_tenant(request: Vec<u8>, tenant: &str) -> Vec<u8> {
    let path = format!("POST /v1/tenants/{tenant}/events");
    [path.as_bytes(), &request["POST /v1/events".len()..]].concat()
}

/// Converts bytes to MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
