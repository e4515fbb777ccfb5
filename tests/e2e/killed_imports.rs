//! Interrupted imports: if the importer, the service or a server is killed at any moment, the result is the same.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;

use ledger_tests::{Command, RealHistory, Servers, Service, digest, run};

use crate::PROGRAM;
use crate::real_history::{COMMIT_COLUMN_FLAG, assert_positions_match_rows};

#[tokio::test]
async fn a_killed_importer_continues_when_run_again() {
    let mut import = Import::start().await;

    import.importer.take().expect("an importer").kill().await;
    let rest = run(PROGRAM, &import.arguments()).await;

    assert_eq!(rest["rows"], import.history.rows.len(), "{rest}");
    assert!(rest["duplicates"].as_u64() >= Some(import.reached), "killed at row {}: {rest}", import.reached);
    assert!(rest["recorded"].as_u64() > Some(0), "killed before the end: {rest}");
    import.assert_complete().await;
}

#[tokio::test]
async fn an_import_survives_a_restart_of_the_service() {
    let mut import = Import::start().await;

    import.service.kill().await;
    import.service.restart().await;

    import.wait().await;
    import.assert_complete().await;
}

#[tokio::test]
async fn an_import_survives_a_restart_of_nats() {
    let mut import = Import::start().await;

    import.servers.kill_nats().await;
    import.servers.start_nats().await;

    import.wait().await;
    import.assert_complete().await;
}

#[tokio::test]
async fn an_import_survives_a_restart_of_postgres() {
    let mut import = Import::start().await;

    import.servers.kill_postgres().await;
    import.servers.start_postgres().await;

    import.wait().await;
    import.assert_complete().await;
}

/// Number of rows: an import of them takes several seconds.
const ROWS: usize = 25_000;

/// A running import that has reached a random row between 10% and 80% of all rows.
struct Import {
    service: Service,
    servers: Servers,
    history: RealHistory,
    importer: Option<Command>,
    file: String,
    url: String,
    /// The row that the import had reached.
    reached: u64,
}

impl Import {
    async fn start() -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
        let history = RealHistory::find_or_generate(servers.folder()).first(ROWS, servers.folder());
        let (file, url) = (history.file.to_string_lossy().into_owned(), format!("--url={}", service.url()));
        let mut import = Self { service, servers, history, importer: None, file, url, reached: 0 };
        import.importer = Some(Command::start(PROGRAM, &import.arguments()));
        import.reached = import.random_row();
        import.service.client().wait_for_head(import.reached).await;
        // Test runners show this output only if the test fails.
        writeln!(std::io::stderr().lock(), "interrupting at row {}", import.reached).expect("printed");
        import
    }

    fn arguments(&self) -> [&str; 7] {
        ["import", "releases", &self.file, &self.url, COMMIT_COLUMN_FLAG, "--json", "--retry-for=60"]
    }

    fn random_row(&self) -> u64 {
        let chance = RandomState::new().hash_one(&self.file) % 70;
        self.history.rows.len() as u64 * (10 + chance) / 100
    }

    /// Waits until the importer succeeds. Repeated rows may be duplicates.
    async fn wait(&mut self) {
        let ended = self.importer.take().expect("an importer").json_output().await;
        let count = self.history.rows.len();
        assert_eq!(ended["rows"], count, "killed at row {}: {ended}", self.reached);
    }

    async fn assert_complete(&self) {
        let (client, count) = (self.service.client(), self.history.rows.len() as u64);
        client.wait_for_projections(count).await;
        assert_eq!(client.positions().await, (count, count), "killed at row {}", self.reached);
        let (last, truth) = self.history.truth.last_key_value().expect("a state");
        assert_eq!(*last, count);
        for (environment, truth) in truth {
            let state = client.get(&format!("/v1/environments/{environment}/state")).await.ok();
            assert_eq!(state["digest"], digest(truth), "{environment}, killed at row {}", self.reached);
        }
        assert_positions_match_rows(&client, &self.history).await;
    }
}
