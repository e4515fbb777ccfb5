//! The service that is attacked.

use ledger_tests::{Client, Servers, Service};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

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
    };
}

/// A service with servers of its own.
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) scale: Scale,
    pub(crate) service: Service,
    _servers: Servers,
}

impl Target {
    pub(crate) async fn start(scale: &Scale) -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &[]).await;
        let scale = Scale { ..*scale };
        Self { client: service.client(), scale, service, _servers: servers }
    }
}
