//! The plan of a run, made from its seed alone: stints with servers of their own, their rounds, and the faults of
//! each round.

use std::fmt;
use std::time::Duration;

use ledger_tests::Random;

/// Number of services that run side by side.
pub(crate) const SERVICES: usize = 2;

/// Sizes of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Number of rounds in a stint.
    pub(crate) rounds: u64,
    /// Duration of the load and the faults of a round.
    pub(crate) load: Duration,
    /// Minimum and maximum number of attempts to place a fault in a round.
    pub(crate) faults: (u64, u64),
    /// Topologies, which the stints use in turn.
    pub(crate) topologies: &'static [Topology],
}

/// Sizes of the long run.
pub(crate) const LONG: Shape = Shape {
    rounds: 3,
    load: Duration::from_secs(24),
    faults: (6, 11),
    topologies: &[Topology::OneNode, Topology::ThreeNodes, Topology::SmallDisks],
};

/// Servers that the services of a stint use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One nats-server.
    OneNode,
    /// Three nats-servers; each entry has three copies.
    ThreeNodes,
    /// One nats-server; its disk and that of Postgres are small and can be filled.
    SmallDisks,
}

impl Topology {
    /// Returns the number of nats-servers.
    pub(crate) const fn nodes(self) -> usize {
        match self {
            Self::OneNode | Self::SmallDisks => 1,
            Self::ThreeNodes => 3,
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneNode => "one nats-server",
            Self::ThreeNodes => "three nats-servers",
            Self::SmallDisks => "one nats-server, small disks",
        })
    }
}

/// A server that a service connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The nats-servers.
    Nats,
    /// Postgres.
    Postgres,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nats => "nats-server",
            Self::Postgres => "Postgres",
        })
    }
}

/// A fault of the connections from a service to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionFault {
    /// Closes all connections; new ones are accepted.
    Cut,
    /// Closes all connections, and each new one at once.
    Refused,
    /// Drops the bytes from the server.
    ResponsesDropped,
    /// Delays all bytes by this many milliseconds.
    Delayed(u64),
    /// Closes the direction from the server to the service.
    ResponsesClosed,
    /// Closes the direction from the service to the server.
    RequestsClosed,
}

/// A fault. Services and nats-servers are identified by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to a service.
    KillService(usize),
    /// SIGSTOP to a service, then SIGCONT.
    PauseService(usize),
    /// SIGKILL to a nats-server.
    KillNats(usize),
    /// SIGSTOP to a nats-server, then SIGCONT.
    PauseNats(usize),
    /// SIGKILL to all processes of Postgres.
    KillPostgres,
    /// SIGSTOP to all processes of Postgres, then SIGCONT.
    PausePostgres,
    /// A fault of the connections from a service to a server.
    Connection(usize, Server, ConnectionFault),
    /// The disk of a server is full.
    FullDisk(Server),
}

/// The part that a fault affects. Faults of the same part do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Service(usize),
    Server(Server),
    Connection(usize, Server),
}

impl Fault {
    /// Returns the kind of the fault, under which the report counts it.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::KillService(_) => "SIGKILL of a service".into(),
            Self::PauseService(_) => "SIGSTOP of a service".into(),
            Self::KillNats(_) => "SIGKILL of a nats-server".into(),
            Self::PauseNats(_) => "SIGSTOP of a nats-server".into(),
            Self::KillPostgres => "SIGKILL of Postgres".into(),
            Self::PausePostgres => "SIGSTOP of Postgres".into(),
            Self::Connection(_, server, fault) => {
                let kind = match fault {
                    ConnectionFault::Cut => "cut",
                    ConnectionFault::Refused => "refused",
                    ConnectionFault::ResponsesDropped => "responses dropped",
                    ConnectionFault::Delayed(_) => "delayed",
                    ConnectionFault::ResponsesClosed | ConnectionFault::RequestsClosed => "half-closed",
                };
                format!("connections to {server}: {kind}")
            }
            Self::FullDisk(server) => format!("full disk of {server}"),
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::KillService(service) | Self::PauseService(service) => Part::Service(*service),
            // One part for all nats-servers: of three, at least two keep running.
            Self::KillNats(_) | Self::PauseNats(_) => Part::Server(Server::Nats),
            Self::KillPostgres | Self::PausePostgres => Part::Server(Server::Postgres),
            Self::Connection(service, server, _) => Part::Connection(*service, *server),
            Self::FullDisk(server) => Part::Server(*server),
        }
    }

    /// Returns the minimum and the maximum duration, in milliseconds.
    fn duration_range_ms(&self) -> (u64, u64) {
        match self {
            // The maximum exceeds every lease of a paused service.
            Self::PauseService(_) => (3_000, 9_000),
            Self::KillService(_) | Self::KillNats(_) | Self::KillPostgres => (0, 3_000),
            Self::PauseNats(_) | Self::PausePostgres => (500, 7_000),
            Self::Connection(_, _, fault) => match fault {
                ConnectionFault::Delayed(_) => (1_000, 6_000),
                ConnectionFault::Cut | ConnectionFault::ResponsesClosed | ConnectionFault::RequestsClosed => {
                    (0, 0)
                }
                ConnectionFault::Refused | ConnectionFault::ResponsesDropped => (500, 6_000),
            },
            Self::FullDisk(_) => (1_000, 5_000),
        }
    }

    fn choose(random: &mut Random, topology: Topology) -> Self {
        let service = random.below(SERVICES as u64) as usize;
        let node = random.below(topology.nodes() as u64) as usize;
        let server = random.pick(&[Server::Nats, Server::Postgres]);
        match random.below(if topology == Topology::SmallDisks { 28 } else { 20 }) {
            0..=2 => Self::KillService(service),
            3..=5 => Self::PauseService(service),
            6..=7 => Self::KillNats(node),
            8..=9 => Self::PauseNats(node),
            10..=11 => Self::KillPostgres,
            12 => Self::PausePostgres,
            13..=19 => Self::Connection(
                service,
                server,
                match random.below(6) {
                    0 => ConnectionFault::Cut,
                    1 => ConnectionFault::Refused,
                    2 => ConnectionFault::ResponsesDropped,
                    3 => ConnectionFault::Delayed(random.within(20, 800)),
                    4 => ConnectionFault::ResponsesClosed,
                    _ => ConnectionFault::RequestsClosed,
                },
            ),
            _ => Self::FullDisk(server),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |service: &usize| ["A", "B"][*service];
        match self {
            Self::KillService(service) => write!(f, "SIGKILL of service {}", name(service)),
            Self::PauseService(service) => write!(f, "SIGSTOP of service {}", name(service)),
            Self::KillNats(node) => write!(f, "SIGKILL of nats-server {}", node + 1),
            Self::PauseNats(node) => write!(f, "SIGSTOP of nats-server {}", node + 1),
            Self::KillPostgres | Self::PausePostgres | Self::FullDisk(_) => f.write_str(&self.kind()),
            Self::Connection(service, server, fault) => {
                let service = name(service);
                write!(f, "connections of service {service} to {server}: ")?;
                match fault {
                    ConnectionFault::Cut => f.write_str("cut"),
                    ConnectionFault::Refused => f.write_str("refused"),
                    ConnectionFault::ResponsesDropped => f.write_str("responses dropped"),
                    ConnectionFault::Delayed(milliseconds) => write!(f, "delayed by {milliseconds} ms"),
                    ConnectionFault::ResponsesClosed => f.write_str("half-closed, no more responses"),
                    ConnectionFault::RequestsClosed => f.write_str("half-closed, no more requests"),
                }
            }
        }
    }
}

/// A fault and its time in the round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduledFault {
    /// Start, from the start of the round.
    pub(crate) at: Duration,
    /// Time from the start of the fault to its end.
    pub(crate) duration: Duration,
    pub(crate) fault: Fault,
}

impl fmt::Display for ScheduledFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.2} s  {}", self.at.as_secs_f64(), self.fault)?;
        if self.duration.is_zero() { Ok(()) } else { write!(f, ", for {:.2} s", self.duration.as_secs_f64()) }
    }
}

/// A part of a run, with load and faults on servers that are started for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stint {
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Number in the run, from 1.
    pub(crate) number: u64,
    /// Servers that the services use.
    pub(crate) topology: Topology,
    /// Seconds for which the nats-server deduplicates; the projections mark later duplicates.
    pub(crate) duplicate_window_seconds: u64,
    /// Faults of each round, in order of time.
    pub(crate) rounds: Vec<Vec<ScheduledFault>>,
    /// Duration of the load and the faults of each round.
    pub(crate) load: Duration,
}

impl Stint {
    /// Plans the stint with this number in the run of a seed.
    pub(crate) fn plan(seed: u64, number: u64, shape: &Shape) -> Self {
        let first = Random::of(seed, &[0]).below(shape.topologies.len() as u64);
        let topology = shape.topologies[((first + number) % shape.topologies.len() as u64) as usize];
        // Two minutes is the default; ten seconds can pass while a server is unavailable.
        let duplicate_window_seconds = Random::of(seed, &[4, number]).pick(&[120, 10]);
        let rounds = (0..shape.rounds)
            .map(|round| faults(&mut Random::of(seed, &[1, number, round]), topology, shape))
            .collect();
        Self { seed, number, topology, duplicate_window_seconds, rounds, load: shape.load }
    }
}

fn faults(random: &mut Random, topology: Topology, shape: &Shape) -> Vec<ScheduledFault> {
    let attempts = random.within(shape.faults.0, shape.faults.1);
    let load = shape.load.as_millis() as u64;
    let mut busy: Vec<(Part, u64, u64)> = Vec::new();
    let mut faults = Vec::new();
    // A fault that overlaps another of its part is skipped, so a round may have fewer faults than attempts.
    for _ in 0..attempts {
        let fault = Fault::choose(random, topology);
        let (shortest, longest) = fault.duration_range_ms();
        let duration = random.within(shortest, longest.min(load / 2).max(shortest));
        let at = random.within(load / 20, load - load / 10);
        // Margins of 500 ms: a killed server needs time to restart.
        let (begin, end) = (at.saturating_sub(500), at + duration + 500);
        let part = fault.part();
        if busy.iter().any(|(other, from, to)| *other == part && begin < *to && *from < end) {
            continue;
        }
        busy.push((part, begin, end));
        let (at, duration) = (Duration::from_millis(at), Duration::from_millis(duration));
        faults.push(ScheduledFault { at, duration, fault });
    }
    faults.sort_by_key(|scheduled| scheduled.at);
    faults
}
