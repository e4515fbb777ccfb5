//! Killed imports: whoever is killed, at whichever moment, the import ends as if nothing had been.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;

use ledger_tests::{Command, RealHistory, Servers, Service, digest, run};

use crate::PROGRAM;
use crate::real_history::{COMMIT_IS, every_position_is_its_row};

#[tokio::test]
async fn an_importer_that_is_killed_goes_on_when_it_is_run_again() {
    let mut import = Import::under_way().await;

    import.importer.take().expect("an importer").kill().await;
    let rest = run(PROGRAM, &import.arguments()).await;

    assert_eq!(rest["rows"], import.history.rows.len(), "{rest}");
    assert!(rest["duplicates"].as_u64() >= Some(import.reached), "killed at row {}: {rest}", import.reached);
    assert!(rest["recorded"].as_u64() > Some(0), "killed before its end: {rest}");
    import.is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn an_import_outlives_the_service() {
    let mut import = Import::under_way().await;

    import.service.kill().await;
    import.service.start_again().await;

    import.ends().await;
    import.is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn an_import_outlives_nats() {
    let mut import = Import::under_way().await;

    import.servers.kill_nats().await;
    import.servers.start_nats().await;

    import.ends().await;
    import.is_as_if_nothing_had_been().await;
}

#[tokio::test]
async fn an_import_outlives_postgres() {
    let mut import = Import::under_way().await;

    import.servers.kill_postgres().await;
    import.servers.start_postgres().await;

    import.ends().await;
    import.is_as_if_nothing_had_been().await;
}

/// An import that has come to some row between 10% and 80% of all, and goes on.
struct Import {
    service: Service,
    servers: Servers,
    history: RealHistory,
    importer: Option<Command>,
    file: String,
    url: String,
    /// The row that the import was seen at.
    reached: u64,
}

impl Import {
    async fn under_way() -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
        let history = RealHistory::find_or_play(servers.folder());
        let (file, url) = (history.file.to_string_lossy().into_owned(), format!("--url={}", service.url()));
        let mut import = Self { service, servers, history, importer: None, file, url, reached: 0 };
        import.importer = Some(Command::start(PROGRAM, &import.arguments()));
        import.reached = import.some_row();
        import.service.client().head_at(import.reached).await;
        // Shown only where the test fails, with whatever else went wrong.
        writeln!(std::io::stderr().lock(), "something is killed at row {}", import.reached).expect("told");
        import
    }

    fn arguments(&self) -> [&str; 7] {
        ["import", "releases", &self.file, &self.url, COMMIT_IS, "--json", "--retry-for=60"]
    }

    /// A row that nobody chose.
    fn some_row(&self) -> u64 {
        let chance = RandomState::new().hash_one(&self.file) % 70;
        self.history.rows.len() as u64 * (10 + chance) / 100
    }

    /// The importer has ridden out what happened. What it sent again it may be told to be a duplicate.
    async fn ends(&mut self) {
        let ended = self.importer.take().expect("an importer").ended().await;
        let count = self.history.rows.len();
        assert_eq!(ended["rows"], count, "killed at row {}: {ended}", self.reached);
    }

    async fn is_as_if_nothing_had_been(&self) {
        let (client, count) = (self.service.client(), self.history.rows.len() as u64);
        client.projections_at(count).await;
        assert_eq!(client.position().await, (count, count), "killed at row {}", self.reached);
        let (last, truth) = self.history.truth.last_key_value().expect("a truth");
        assert_eq!(*last, count);
        for (environment, truth) in truth {
            let state = client.get(&format!("/v1/environments/{environment}/state")).await.ok();
            assert_eq!(state["digest"], digest(truth), "{environment}, killed at row {}", self.reached);
        }
        every_position_is_its_row(&client, &self.history).await;
    }
}
