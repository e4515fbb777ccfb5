//! CPU time of authentication: an event of a client without credentials, with an API token, and with a token of an OpenID
//! Connect issuer.
//!
//! Three services, which differ in their settings of access only, take turns in slices of the same events. A slice lasts
//! until the projections have it. The figures are medians over the rounds.

use std::io::Write as _;

use ledger_codec::cloudevents::Envelope;
use ledger_tests::{Client, Issuer, Servers, Service, administrator, new_token};
use tempfile::NamedTempFile;

use crate::PROGRAM;
use crate::cpu::{Measured, Meter};
use crate::ingest::{MEMORY_LIMIT, Size, Slice, Slices, for_tenant, lines, mebibytes, wait_until_projected};
use crate::load::{post, report_events, send_all};
use crate::report::{Cost, Report};

/// Events of a small batch, as a step of a pipeline sends it.
const BATCH: usize = 20;
/// Tokens of the issuer that are used by turns: as many jobs of a CI send events at a time.
const JOBS: usize = 16;
/// Limits that no slice reaches. Without limits, the service would not count requests and events.
const LIMITS: [&str; 5] = [
    "--limits-requests-per-second=1000000",
    "--limits-burst=1000000",
    "--limits-events-per-second=1000000",
    "--limits-event-burst=1000000",
    "--limits-concurrent-requests=1000",
];

/// A way to send events, and its goals.
struct Part {
    name: &'static str,
    /// Prefix of the tenants.
    tenant: &'static str,
    events_a_request: usize,
    connections: usize,
    /// Maximum ratios of the CPU time of an event to that without credentials: with an API token, and with a token of an
    /// issuer.
    goals: Option<[f64; 2]>,
}

const PARTS: [Part; 2] = [
    Part {
        name: "singles over 64 connections",
        tenant: "access-singles",
        events_a_request: 1,
        connections: 64,
        goals: Some([1.10, 1.15]),
    },
    Part {
        name: "batches of 20 over 16 connections",
        tenant: "access-batches",
        events_a_request: BATCH,
        connections: 16,
        goals: None,
    },
];

/// Credentials of the clients of a service.
struct Credentials {
    /// Name in tables.
    label: &'static str,
    /// Settings of access.
    settings: String,
    /// Tokens, which the requests have by turns; none: the service authenticates no client.
    tokens: Vec<String>,
}

impl Credentials {
    fn none() -> Self {
        Self { label: "none", settings: String::new(), tokens: Vec::new() }
    }

    fn api_token() -> Self {
        let token = new_token();
        let settings = administrator(&token, "ci", "workload");
        Self { label: "token", settings, tokens: vec![token.expose().to_owned()] }
    }

    fn of_issuer(issuer: &Issuer) -> Self {
        let tokens = (0..JOBS).map(|run| issuer.job_token("production", run)).collect();
        let (url, audience, repository) = (issuer.url(), Issuer::AUDIENCE, Issuer::REPOSITORY_ID);
        let settings = format!(
            "[[access.issuers]]\nissuer = {url:?}\naudience = {audience:?}\npreset = \"github\"\n\
             [[access.grants]]\ngrantee = {{ issuer = {url:?}, claims = {{ repository_id = {repository:?} }} }}\n\
             tenant = \"*\"\nenvironments = [\"*\"]\nservices = [\"*\"]\nverbs = [\"*\"]\n"
        );
        Self { label: "oidc", settings, tokens }
    }
}

/// A running service with a tenant and a database of its own.
struct Run {
    credentials: Credentials,
    tenant: String,
    database: String,
    service: Service,
    client: Client,
    slices: Slices,
    // The service reads it when it starts.
    _settings: NamedTempFile,
}

/// Measures all parts.
pub(crate) async fn overhead(servers: &Servers, size: &Size, report: &mut Report) {
    let issuer = Issuer::start().await;
    let mut meter = Meter::start(servers).await;
    for part in &PARTS {
        part.measure(servers, &issuer, &mut meter, size, report).await;
    }
}

impl Part {
    async fn measure(
        &self,
        servers: &Servers,
        issuer: &Issuer,
        meter: &mut Meter,
        size: &Size,
        report: &mut Report,
    ) {
        let slice = if self.events_a_request > 1 { size.batched } else { size.singles };
        let events = report_events(slice * size.rounds);
        let mut runs = Vec::new();
        for credentials in [Credentials::none(), Credentials::api_token(), Credentials::of_issuer(issuer)] {
            runs.push(Run::start(self, servers, credentials).await);
        }
        for (round, events) in events.chunks(slice).enumerate() {
            // Each round begins with another service, so that none always follows the same one.
            for turn in 0..runs.len() {
                let index = (round + turn) % runs.len();
                runs[index].measure_slice(self, meter, events).await;
            }
        }
        self.report(&runs, report);
        for run in &mut runs {
            run.service.kill().await;
        }
    }

    fn report(&self, runs: &[Run], report: &mut Report) {
        let (name, baseline) = (self.name, runs[0].slices.per_event().sum());
        for (index, run) in runs.iter().enumerate() {
            let (label, per_event) = (run.credentials.label, run.slices.per_event());
            // The first one is the baseline.
            if let Some(other) = index.checked_sub(1) {
                let goal = self.goals.map(|goals| goals[other]);
                let what = format!("CPU µs/event, {name}, {label} beside none");
                report.cpu_beside(&what, baseline, per_event.sum(), goal);
                let (rate, ours) = (runs[0].slices.events_per_second(), run.slices.events_per_second());
                report.rate(&format!("events/s, {name}, {label} beside none"), rate, ours, None);
            }
            let peak = mebibytes(run.service.peak_memory());
            report.size(&format!("peak memory, {name}, {label}"), MEMORY_LIMIT, peak);
            report.cost(Cost { name: name.to_owned(), program: label, per_event, goal: None });
        }
    }
}

impl Run {
    async fn start(part: &Part, servers: &Servers, credentials: Credentials) -> Self {
        let tenant = format!("{}-{}", part.tenant, credentials.label);
        let database = tenant.replace('-', "_");
        let projections = format!("--projections-url={}", servers.fresh_database(&database).await);
        let tenants = format!("--tenants={tenant}");
        let mut settings = NamedTempFile::new().expect("a file");
        settings.write_all(credentials.settings.as_bytes()).expect("written");
        let config = format!("--config={}", settings.path().display());
        let mut flags = vec![&*tenants, &*projections];
        if !credentials.tokens.is_empty() {
            flags.extend(["--access-authentication=required", &*config]);
            flags.extend(LIMITS);
        }
        let service = Service::start(PROGRAM, servers, &flags).await;
        let client = match credentials.tokens.first() {
            Some(token) => service.client().with_token(token),
            None => service.client(),
        };
        let slices = Slices::default();
        Self { credentials, tenant, database, service, client, slices, _settings: settings }
    }

    async fn measure_slice(&mut self, part: &Part, meter: &mut Meter, events: &[Envelope]) {
        let requests = self.requests(part, events);
        let measured = Measured::Service(self.service.pid());
        let before = meter.sample(measured, &self.database).await;
        let mut time = send_all(&self.service.url(), requests, part.connections).await;
        time += wait_until_projected(&self.client, &self.tenant).await;
        let cpu = before.until(&meter.sample(measured, &self.database).await);
        self.slices.push(Slice::new(events.len(), time, cpu));
    }

    /// Returns the requests that send events to the tenant of the service.
    fn requests(&self, part: &Part, events: &[Envelope]) -> Vec<Vec<u8>> {
        let tokens = &self.credentials.tokens;
        let request = |(number, events): (usize, &[Envelope])| {
            let request = match events {
                [event] if part.events_a_request == 1 => post("application/cloudevents+json", event.bytes()),
                batch => post("application/x-ndjson", &lines(batch)),
            };
            let request = for_tenant(request, &self.tenant);
            if tokens.is_empty() { request } else { with_token(&request, &tokens[number % tokens.len()]) }
        };
        events.chunks(part.events_a_request).enumerate().map(request).collect()
    }
}

/// Adds a token to a request, after its first line.
fn with_token(request: &[u8], token: &str) -> Vec<u8> {
    let end = request.windows(2).position(|pair| pair == b"\r\n").expect("a first line") + 2;
    let header = format!("Authorization: Bearer {token}\r\n");
    [&request[..end], header.as_bytes(), &request[end..]].concat()
}
