//! CPU time by component: the service, nats-server, the processes of Postgres by purpose, and the load generator.
//!
//! Times are user plus system time from `/proc`, in ticks. The postmaster counts the processes that it has reaped, so a
//! session that ends between two samples is not lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use ledger_tests::Servers;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// Microseconds of a tick: Linux reports hundredths of a second.
const TICK_US: f64 = 10_000.0;
/// `application_name` of the sessions of this program.
const OWN_APPLICATION: &str = "release-ledger bench";

/// A component whose CPU time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    /// The measured program: a service, or a command.
    Service,
    /// nats-server.
    Nats,
    /// Sessions that write projections.
    Projector,
    /// Sessions for look-ups and decisions, and of the rollback controller.
    Recording,
    /// WAL writer, checkpointer, background writer and other processes without a client.
    Background,
    /// Other sessions, workers such as autovacuum, and the postmaster. All sessions of a program whose sessions do not state a purpose.
    OtherPostgres,
    /// This program, which sends the requests.
    Load,
}

impl Component {
    /// All components, in the order of columns.
    pub(crate) const ALL: [Self; 7] = [
        Self::Service,
        Self::Nats,
        Self::Projector,
        Self::Recording,
        Self::Background,
        Self::OtherPostgres,
        Self::Load,
    ];

    /// Returns the name in tables and JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Nats => "nats",
            Self::Projector => "pg-projector",
            Self::Recording => "pg-recording",
            Self::Background => "pg-background",
            Self::OtherPostgres => "pg-other",
            Self::Load => "load",
        }
    }
}

/// CPU time of each component, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu([f64; Component::ALL.len()]);

impl Cpu {
    /// Returns the time of a component.
    pub(crate) const fn of(&self, component: Component) -> f64 {
        self.0[component as usize]
    }

    /// Returns the time of all components without the load generator.
    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().sum::<f64>() - self.of(Component::Load)
    }

    /// Returns the time for each of this many events.
    pub(crate) fn per_event(&self, events: usize) -> Self {
        Self(self.0.map(|time| time / events as f64))
    }

    /// Returns the median of each component.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let of = |component: Component| -> Vec<f64> { rounds.iter().map(|cpu| cpu.of(component)).collect() };
        Self(Component::ALL.map(|component| median(&of(component))))
    }

    fn add(&mut self, component: Component, ticks: u64) {
        self.0[component as usize] += ticks as f64 * TICK_US;
    }
}

impl std::ops::AddAssign for Cpu {
    fn add_assign(&mut self, other: Self) {
        for (time, other) in self.0.iter_mut().zip(other.0) {
            *time += other;
        }
    }
}

/// Returns the median; of an even number of values, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// CPU time that a process has used, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// Time of all its threads.
    pub(crate) own: u64,
    /// Time of the children that it has reaped, and of theirs.
    pub(crate) children: u64,
}

impl Ticks {
    /// Parses the text of `/proc/PID/stat`.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        // The name may contain spaces and parentheses: the fields follow its last one.
        let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(11);
        let mut sum = || Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?);
        Some(Self { own: sum()?, children: sum()? })
    }

    /// Reads the time of a process; `None` if it does not exist.
    fn of(process: &str) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?)
    }
}

/// A client session of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// `application_name` of the client.
    pub(crate) application: String,
    /// Database of the session.
    pub(crate) database: String,
}

/// Returns the component of a process of Postgres; `None` for a session in a database other than the measured one.
pub(crate) fn component(
    command_line: &str,
    session: Option<&Session>,
    measured_database: &str,
) -> Option<Component> {
    let Some(session) = session else {
        // A title of a client has its address and port: "postgres: user database 127.0.0.1(5432) idle". That of a process
        // that is ending is empty.
        let is_other =
            command_line.is_empty() || command_line.contains('(') || command_line.contains("worker");
        return Some(if is_other { Component::OtherPostgres } else { Component::Background });
    };
    if session.application == OWN_APPLICATION {
        return Some(Component::Load);
    }
    if session.database != measured_database {
        return None;
    }
    Some(match session.application.strip_prefix("release-ledger ") {
        Some("projector") => Component::Projector,
        Some("recording") => Component::Recording,
        _ => Component::OtherPostgres,
    })
}

/// CPU times at one moment, in ticks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) service: u64,
    pub(crate) nats: u64,
    pub(crate) load: u64,
    /// The postmaster, and the processes that it has reaped.
    pub(crate) postmaster: u64,
    /// Component and time of each process of Postgres, by process id.
    pub(crate) processes: BTreeMap<u32, (Option<Component>, u64)>,
}

impl Sample {
    /// Returns the time that each component used from this sample to a later one.
    pub(crate) fn until(&self, later: &Self) -> Cpu {
        let mut cpu = Cpu::default();
        cpu.add(Component::Service, later.service.saturating_sub(self.service));
        cpu.add(Component::Nats, later.nats.saturating_sub(self.nats));
        cpu.add(Component::Load, later.load.saturating_sub(self.load));
        for (pid, (component, ticks)) in &later.processes {
            let before = self.processes.get(pid).map_or(0, |(_, ticks)| *ticks);
            if let Some(component) = component {
                cpu.add(*component, ticks.saturating_sub(before));
            }
        }
        // What an ended process had used before the first sample is in the postmaster's time now.
        let ended = self.processes.iter().filter(|(pid, _)| !later.processes.contains_key(pid));
        let before: u64 = ended.map(|(_, (_, ticks))| ticks).sum();
        let reaped = later.postmaster.saturating_sub(self.postmaster).saturating_sub(before);
        cpu.add(Component::OtherPostgres, reaped);
        cpu
    }
}

/// The process that is measured as [`Component::Service`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measured {
    /// None: the floor is measured, or the service has not started yet.
    Nothing,
    /// A running service, by its process id.
    Service(u32),
    /// Commands that this program starts and waits for between two samples.
    Commands,
}

/// Reads CPU times of the servers of a part.
pub(crate) struct Meter {
    connection: PgConnection,
    postmaster: u32,
    nats: u32,
}

impl Meter {
    /// Connects to the servers.
    pub(crate) async fn start(servers: &Servers) -> Self {
        let options = PgConnectOptions::from_str(&servers.postgres_url()).expect("the URL is valid");
        let connection = PgConnection::connect_with(&options.application_name(OWN_APPLICATION)).await;
        let connection = connection.expect("connect to Postgres");
        Self { connection, postmaster: servers.postgres_pid(), nats: servers.nats_pid() }
    }

    /// Reads the times. Sessions in databases other than this one are left out.
    pub(crate) async fn sample(&mut self, measured: Measured, database: &str) -> Sample {
        let sessions = self.sessions().await;
        let own = Ticks::of("self").expect("this process runs");
        let service = match measured {
            Measured::Nothing => 0,
            Measured::Service(pid) => ticks(pid).own,
            Measured::Commands => own.children,
        };
        let postmaster = ticks(self.postmaster);
        let mut processes = BTreeMap::new();
        for pid in children(self.postmaster) {
            // A process that ends now is in the postmaster's time of the next sample.
            let Some(used) = Ticks::of(&pid.to_string()) else { continue };
            let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command_line = String::from_utf8_lossy(&command_line);
            processes.insert(pid, (component(&command_line, sessions.get(&pid), database), used.own));
        }
        Sample {
            service,
            nats: ticks(self.nats).own,
            load: own.own,
            postmaster: postmaster.own + postmaster.children,
            processes,
        }
    }

    /// Returns the client sessions by process id.
    async fn sessions(&mut self) -> BTreeMap<u32, Session> {
        let query = "SELECT pid, application_name, datname::text FROM pg_stat_activity
            WHERE datname IS NOT NULL AND application_name IS NOT NULL AND client_port IS NOT NULL";
        let rows: Vec<(i32, String, String)> =
            sqlx::query_as(query).fetch_all(&mut self.connection).await.expect("read the sessions");
        let session = |(pid, application, database): (i32, String, String)| {
            (pid.cast_unsigned(), Session { application, database })
        };
        rows.into_iter().map(session).collect()
    }
}

fn ticks(pid: u32) -> Ticks {
    Ticks::of(&pid.to_string()).expect("the process runs")
}

fn children(pid: u32) -> Vec<u32> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("read the children");
    text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}
