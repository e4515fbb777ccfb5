//! The service that is attacked.

use std::fs;
use std::time::Duration;

use ledger_access::ApiToken;
use ledger_tests::{Client, Servers, Service, administrator, new_token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::NamedTempFile;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// Flag of a service that authenticates its clients. With it, the attacker is one principal and all others another.
pub(crate) const AUTHENTICATION: &str = "--access-authentication=required";

/// Sizes of the attacks.
pub(crate) struct Scale {
    /// Changes of one environment.
    pub(crate) changes: u64,
    /// Environments that are searched at a time, and changes of each.
    pub(crate) environments: (u64, u64),
    /// Services of one environment, and rollback requests in one body.
    pub(crate) requests: (u64, u64),
    /// Freezes in one body.
    pub(crate) freezes: u64,
    /// Clients that ask slow questions.
    pub(crate) readers: usize,
    /// Environments with observations.
    pub(crate) observed: u64,
    /// Services of the largest environment.
    pub(crate) services: u64,
    /// Bodies of large events that are sent at a time.
    pub(crate) large_bodies: u64,
    /// Time for which a rate of events is measured.
    pub(crate) rate_period: Duration,
    pub(crate) connections: Connections,
    /// Events of another principal that are measured before a flood, and during it.
    pub(crate) flooded: usize,
    /// Events that a client records between very many connections.
    pub(crate) crowded_events: usize,
    /// True to assert figures that depend on the machine.
    pub(crate) asserts_figures: bool,
}

/// Numbers of connections of each kind.
#[derive(Clone, Copy)]
pub(crate) struct Connections {
    pub(crate) unread: usize,
    pub(crate) dripping: usize,
    /// Time within which each dripping body has to end.
    pub(crate) drip_timeout: Duration,
    pub(crate) idle: usize,
    pub(crate) followers: usize,
    /// Idle connections, and dripping ones, at the same time.
    pub(crate) crowd: (usize, usize),
}

impl Scale {
    /// Sizes for each run of the tests.
    pub(crate) const SMALL: Self = Self {
        changes: 5_000,
        environments: (10, 100),
        requests: (50, 30),
        freezes: 300,
        readers: 20,
        observed: 1_200,
        services: 200,
        large_bodies: 2,
        rate_period: Duration::from_secs(1),
        connections: Connections {
            unread: 10,
            dripping: 5,
            drip_timeout: Duration::from_secs(30),
            idle: 300,
            followers: 50,
            crowd: (1_000, 50),
        },
        flooded: 100,
        crowded_events: 50,
        asserts_figures: false,
    };
}

/// Tokens of the principals of an attack.
struct Tokens {
    attacker: ApiToken,
    other: ApiToken,
    /// File with the settings of the service, which has their hashes.
    settings: NamedTempFile,
}

impl Tokens {
    fn new() -> Self {
        let (attacker, other) = (new_token(), new_token());
        let settings = NamedTempFile::new().expect("a file");
        let lines =
            administrator(&attacker, "attacker", "workload") + &administrator(&other, "other", "workload");
        fs::write(settings.path(), lines).expect("written");
        Self { attacker, other, settings }
    }
}

/// A service with servers of its own.
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) scale: Scale,
    pub(crate) service: Service,
    /// `None`: the service does not authenticate its clients.
    tokens: Option<Tokens>,
    _servers: Servers,
}

impl Target {
    pub(crate) async fn start(scale: &Scale, flags: &[&str]) -> Self {
        let servers = Servers::start().await;
        let tokens = flags.contains(&AUTHENTICATION).then(Tokens::new);
        let config = tokens.as_ref().map(|tokens| format!("--config={}", tokens.settings.path().display()));
        let flags: Vec<&str> = flags.iter().copied().chain(config.as_deref()).collect();
        let service = Service::start(PROGRAM, &servers, &flags).await;
        let scale = Scale { ..*scale };
        let client = client(&service, tokens.as_ref());
        Self { client, scale, service, tokens, _servers: servers }
    }

    /// Returns a client with connections of its own, which is another principal than the attacker.
    pub(crate) fn new_client(&self) -> Client {
        client(&self.service, self.tokens.as_ref())
    }

    /// Returns the token of the attacker; `None` if the service does not authenticate its clients.
    pub(crate) fn attacker_token(&self) -> Option<String> {
        self.tokens.as_ref().map(|tokens| tokens.attacker.expose().to_owned())
    }

    /// Returns the address of the service.
    pub(crate) fn address(&self) -> String {
        self.service.url().trim_start_matches("http://").to_owned()
    }

    /// Returns the resident memory of the service in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        memory_mib(self.service.pid())
    }

    /// Returns the CPU time of the service in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.service.pid())).unwrap_or_default();
        // The name of the process, in parentheses, may contain spaces. The state after it is no number. utime and stime
        // are in hundredths of a second.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let fields: Vec<f64> = after_name.split(' ').filter_map(|field| field.parse().ok()).collect();
        fields.get(10..12).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
    }
}

fn client(service: &Service, tokens: Option<&Tokens>) -> Client {
    match tokens {
        Some(tokens) => service.client().with_token(tokens.other.expose()),
        None => service.client(),
    }
}

/// Raises the soft limit of open files of this process to the hard one. The service was started before, with its own.
pub(crate) fn raise_limit_of_files() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    raised.map_err(|error| format!("cannot raise the limit of open files: {error}"))
}

/// Returns the resident memory of a process in MiB.
pub(crate) fn memory_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
