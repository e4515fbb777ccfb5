//! What a run does, wholly made from its seed: stints, each with servers of its own, their rounds, and the
//! faults of each round.

use std::fmt;
use std::time::Duration;

use ledger_tests::Random;

/// Services beside each other.
pub(crate) const SERVICES: usize = 2;

/// What kinds of stints a run may have, and how long their parts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Rounds of a stint.
    pub(crate) rounds: u64,
    /// How long a round's load and faults last.
    pub(crate) load: Duration,
    /// Faults of a round, at least and at most.
    pub(crate) faults: (u64, u64),
    /// The stands that stints go through in turn.
    pub(crate) stands: &'static [Stand],
}

/// The long run.
pub(crate) const LONG: Shape = Shape {
    rounds: 3,
    load: Duration::from_secs(24),
    faults: (6, 11),
    stands: &[Stand::One, Stand::Three, Stand::SmallDisks],
};

/// What the services stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// One nats-server.
    One,
    /// Three nats-servers; each entry has three copies.
    Three,
    /// One nats-server; its disk and that of Postgres are small, and get full.
    SmallDisks,
}

impl Stand {
    /// How many nats-servers there are.
    pub(crate) const fn nodes(self) -> usize {
        match self {
            Self::One | Self::SmallDisks => 1,
            Self::Three => 3,
        }
    }
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one nats-server",
            Self::Three => "three nats-servers",
            Self::SmallDisks => "one nats-server, small disks",
        })
    }
}

/// What a service speaks with.
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

/// What happens to the connections of a service to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// They are cut; new ones are taken.
    Cut,
    /// They are cut, and so is every new one.
    Refused,
    /// Answers are lost.
    Swallowed,
    /// Everything takes so many milliseconds longer.
    Delayed(u64),
    /// The service is told that the server says no more.
    AnswersClosed,
    /// The server is told that the service says no more.
    RequestsClosed,
}

/// Something that goes wrong. Services and nats-servers are known by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to a service.
    KillService(usize),
    /// SIGSTOP to a service, then SIGCONT.
    StopService(usize),
    /// SIGKILL to a nats-server.
    KillNats(usize),
    /// SIGSTOP to a nats-server, then SIGCONT.
    StopNats(usize),
    /// SIGKILL to all of Postgres.
    KillPostgres,
    /// SIGSTOP to all of Postgres, then SIGCONT.
    StopPostgres,
    /// The connections of a service to a server are harmed.
    Line(usize, Server, Harm),
    /// The disk of a server is full.
    FullDisk(Server),
}

/// What a fault is about: no two faults are about the same at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matter {
    Service(usize),
    Server(Server),
    Line(usize, Server),
}

impl Fault {
    /// The kind of fault, as it is counted.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::KillService(_) => "SIGKILL of a service".into(),
            Self::StopService(_) => "SIGSTOP of a service".into(),
            Self::KillNats(_) => "SIGKILL of a nats-server".into(),
            Self::StopNats(_) => "SIGSTOP of a nats-server".into(),
            Self::KillPostgres => "SIGKILL of Postgres".into(),
            Self::StopPostgres => "SIGSTOP of Postgres".into(),
            Self::Line(_, server, harm) => {
                let what = match harm {
                    Harm::Cut => "cut",
                    Harm::Refused => "refused",
                    Harm::Swallowed => "answers lost",
                    Harm::Delayed(_) => "delayed",
                    Harm::AnswersClosed | Harm::RequestsClosed => "half-closed",
                };
                format!("connections to {server} {what}")
            }
            Self::FullDisk(server) => format!("full disk of {server}"),
        }
    }

    fn matter(&self) -> Matter {
        match self {
            Self::KillService(service) | Self::StopService(service) => Matter::Service(*service),
            // Of three nats-servers, two stay.
            Self::KillNats(_) | Self::StopNats(_) => Matter::Server(Server::Nats),
            Self::KillPostgres | Self::StopPostgres => Matter::Server(Server::Postgres),
            Self::Line(service, server, _) => Matter::Line(*service, *server),
            Self::FullDisk(server) => Matter::Server(*server),
        }
    }

    /// How long it may last, in milliseconds.
    fn span(&self) -> (u64, u64) {
        match self {
            // Longer than any lease of who is stopped.
            Self::StopService(_) => (3_000, 9_000),
            Self::KillService(_) | Self::KillNats(_) | Self::KillPostgres => (0, 3_000),
            Self::StopNats(_) | Self::StopPostgres => (500, 7_000),
            Self::Line(_, _, Harm::Delayed(_)) => (1_000, 6_000),
            Self::Line(_, _, Harm::Cut | Harm::AnswersClosed | Harm::RequestsClosed) => (0, 0),
            Self::Line(..) => (500, 6_000),
            Self::FullDisk(_) => (1_000, 5_000),
        }
    }

    fn choose(random: &mut Random, stand: Stand) -> Self {
        let service = random.below(SERVICES as u64) as usize;
        let node = random.below(stand.nodes() as u64) as usize;
        let server = random.pick(&[Server::Nats, Server::Postgres]);
        match random.below(if stand == Stand::SmallDisks { 28 } else { 20 }) {
            0..=2 => Self::KillService(service),
            3..=5 => Self::StopService(service),
            6..=7 => Self::KillNats(node),
            8..=9 => Self::StopNats(node),
            10..=11 => Self::KillPostgres,
            12 => Self::StopPostgres,
            13..=19 => Self::Line(
                service,
                server,
                match random.below(6) {
                    0 => Harm::Cut,
                    1 => Harm::Refused,
                    2 => Harm::Swallowed,
                    3 => Harm::Delayed(random.within(20, 800)),
                    4 => Harm::AnswersClosed,
                    _ => Harm::RequestsClosed,
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
            Self::StopService(service) => write!(f, "SIGSTOP of service {}", name(service)),
            Self::KillNats(node) => write!(f, "SIGKILL of nats-server {}", node + 1),
            Self::StopNats(node) => write!(f, "SIGSTOP of nats-server {}", node + 1),
            Self::KillPostgres | Self::StopPostgres | Self::FullDisk(_) => f.write_str(&self.kind()),
            Self::Line(service, server, harm) => {
                let service = name(service);
                write!(f, "connections of service {service} to {server}: ")?;
                match harm {
                    Harm::Cut => f.write_str("cut"),
                    Harm::Refused => f.write_str("refused"),
                    Harm::Swallowed => f.write_str("answers lost"),
                    Harm::Delayed(milliseconds) => write!(f, "delayed by {milliseconds} ms"),
                    Harm::AnswersClosed => f.write_str("half-closed, no more answers"),
                    Harm::RequestsClosed => f.write_str("half-closed, no more requests"),
                }
            }
        }
    }
}

/// A fault and its time in the round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timed {
    /// When it begins.
    pub(crate) at: Duration,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// What it is.
    pub(crate) fault: Fault,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.2} s  {}", self.at.as_secs_f64(), self.fault)?;
        if self.lasts.is_zero() { Ok(()) } else { write!(f, ", for {:.2} s", self.lasts.as_secs_f64()) }
    }
}

/// Load and faults on servers that are started for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stint {
    /// The seed of the run.
    pub(crate) seed: u64,
    /// Its number in the run, from 1.
    pub(crate) number: u64,
    /// What it stands on.
    pub(crate) stand: Stand,
    /// How many seconds the nats-server remembers identities: no longer, and it is up to the projections.
    pub(crate) memory: u64,
    /// The faults of each round, in order of time.
    pub(crate) rounds: Vec<Vec<Timed>>,
    /// How long load and faults of each round last.
    pub(crate) load: Duration,
}

impl Stint {
    /// The stint of this number in the run of a seed.
    pub(crate) fn plan(seed: u64, number: u64, shape: &Shape) -> Self {
        let first = Random::of(seed, &[0]).below(shape.stands.len() as u64);
        let stand = shape.stands[((first + number) % shape.stands.len() as u64) as usize];
        // Two minutes are the default; ten seconds are over while a server is away.
        let memory = Random::of(seed, &[4, number]).pick(&[120, 10]);
        let rounds = (0..shape.rounds)
            .map(|round| faults(&mut Random::of(seed, &[1, number, round]), stand, shape))
            .collect();
        Self { seed, number, stand, memory, rounds, load: shape.load }
    }
}

fn faults(random: &mut Random, stand: Stand, shape: &Shape) -> Vec<Timed> {
    let wanted = random.within(shape.faults.0, shape.faults.1);
    let load = shape.load.as_millis() as u64;
    let mut busy: Vec<(Matter, u64, u64)> = Vec::new();
    let mut faults = Vec::new();
    // What does not fit beside the others is left out: a round may have fewer than were wanted.
    for _ in 0..wanted {
        let fault = Fault::choose(random, stand);
        let (shortest, longest) = fault.span();
        let lasts = random.within(shortest, longest.min(load / 2).max(shortest));
        let at = random.within(load / 20, load - load / 10);
        // A killed server needs a moment to come back.
        let (begins, ends) = (at.saturating_sub(500), at + lasts + 500);
        let matter = fault.matter();
        if busy.iter().any(|(other, from, to)| *other == matter && begins < *to && *from < ends) {
            continue;
        }
        busy.push((matter, begins, ends));
        faults.push(Timed { at: Duration::from_millis(at), lasts: Duration::from_millis(lasts), fault });
    }
    faults.sort_by_key(|timed| timed.at);
    faults
}
