//! Tests of the private Postgres with real servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Pid;

use super::*;
use crate::process::{arguments, find_processes};
use crate::test_path;

fn options() -> Options {
    Options { sync_new: false, ..Options::found_in(test_path()) }
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(postgres.url().expose_secret()).await.expect("connected")
}

async fn store_row(postgres: &Postgres) {
    let mut connection = connect(postgres).await;
    connection.execute("CREATE TABLE kept (id bigint PRIMARY KEY)").await.expect("a table");
    connection.execute("INSERT INTO kept VALUES (4711)").await.expect("a row");
}

async fn stored_row(postgres: &Postgres) -> i64 {
    sqlx::query_scalar("SELECT id FROM kept").fetch_one(&mut connect(postgres).await).await.expect("a row")
}

/// Returns the number of running processes of the cluster.
fn count_processes(cluster: &ClusterProcesses) -> usize {
    find_processes(|process| cluster.matches(process)).len()
}

#[tokio::test]
async fn a_server_starts_accepts_only_its_password_and_stops() {
    let root = tempfile::tempdir().expect("temporary directory");
    let postgres = Postgres::start(root.path(), &options()).await.expect("started");
    let (processes, port) = (postgres.processes.clone(), postgres.port());

    store_row(&postgres).await;
    let wrong_password =
        PgConnection::connect(&format!("postgres://ledger:wrong@127.0.0.1:{port}/ledger")).await;
    let running = count_processes(&processes);
    postgres.stop().await.expect("stopped");

    assert!(wrong_password.is_err());
    // The postmaster, and its children by their titles.
    assert!(running > 3, "{running}");
    assert_eq!(count_processes(&processes), 0);
    assert!(!root.path().join("pgdata/postmaster.pid").exists());
}

#[tokio::test]
async fn a_server_restarts_after_a_crash_with_clients_with_its_port_password_and_data() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Postgres::start(root.path(), &options()).await.expect("started");
    store_row(&first).await;
    let _client = connect(&first).await;
    let (processes, port, url) = (first.processes.clone(), first.port(), first.url().clone());

    first.kill().await.expect("killed");
    let remaining = count_processes(&processes);
    let stale = root.path().join("pgdata/postmaster.pid").exists();
    let second = Postgres::start(root.path(), &Options { port: Some(port), ..options() })
        .await
        .expect("started again");

    assert_eq!(remaining, 0);
    assert!(stale);
    assert_eq!(second.url().expose_secret(), url.expose_secret());
    assert_eq!(stored_row(&second).await, 4711);
}

#[tokio::test]
async fn a_pid_file_with_the_id_of_an_unrelated_process_does_not_prevent_a_start() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Postgres::start(root.path(), &options()).await.expect("started");
    first.kill().await.expect("killed");
    let path = root.path().join("pgdata/postmaster.pid");
    let stale = fs::read_to_string(&path).expect("a pid file");
    let (_, rest) = stale.split_once('\n').expect("lines");
    fs::write(&path, format!("{}\n{rest}", std::process::id())).expect("written");

    let second = Postgres::start(root.path(), &options()).await;

    assert!(second.is_ok(), "{second:?}");
}

#[tokio::test]
async fn a_server_left_running_is_stopped_and_its_data_is_reused() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Postgres::start(root.path(), &options()).await.expect("started");
    store_row(&first).await;
    let orphan = first.pid();
    first.abandon();

    let second = Postgres::start(root.path(), &options()).await.expect("started again");

    let orphan = Pid::from_raw(i32::try_from(orphan).expect("a number")).expect("a number");
    assert_eq!(arguments(orphan), Vec::<String>::new());
    assert_eq!(stored_row(&second).await, 4711);
}

#[tokio::test]
async fn a_server_started_by_another_program_is_reported_and_keeps_running() {
    let root = tempfile::tempdir().expect("temporary directory");
    let path = root.path().canonicalize().expect("a path");
    Postgres::start(&path, &options()).await.expect("started").stop().await.expect("stopped");
    let cluster = Cluster {
        programs: Programs::find(&options(), Path::new(DEBIAN_VERSIONS)).expect("programs"),
        account: Account::for_postgres().expect("an account"),
        directory: path.clone(),
        name: "foreign".to_owned(),
    };
    let mut foreign = cluster.launch(port::find_free().expect("a port")).await.expect("started");

    let rejected = Postgres::start(&path, &options()).await;

    assert!(matches!(rejected, Err(Error::ForeignPostgres { .. })), "{rejected:?}");
    assert!(foreign.exit_status().expect("process state").is_none());
}

#[tokio::test]
async fn dropping_a_server_stops_all_its_processes() {
    let root = tempfile::tempdir().expect("temporary directory");
    let postgres = Postgres::start(root.path(), &options()).await.expect("started");
    let processes = postgres.processes.clone();

    drop(postgres);

    assert_eq!(count_processes(&processes), 0);
}

#[tokio::test]
async fn an_incomplete_cluster_is_created_again() {
    let root = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(root.path().join("pgdata.draft/base")).expect("draft created");

    let postgres = Postgres::start(root.path(), &options()).await;

    assert!(postgres.is_ok(), "{postgres:?}");
    assert!(!root.path().join("pgdata.draft").exists());
}

#[tokio::test]
async fn a_directory_in_use_is_rejected_and_the_first_server_continues() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Postgres::start(root.path(), &options()).await.expect("started");

    let second = Postgres::start(root.path(), &options()).await;

    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    store_row(&first).await;
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let root = tempfile::tempdir().expect("temporary directory");
    let holder =
        std::net::TcpListener::bind(("127.0.0.1", port::find_free().expect("a port"))).expect("bound");
    let taken = holder.local_addr().expect("an address").port();

    let rejected = Postgres::start(root.path(), &Options { port: Some(taken), ..options() }).await;

    assert!(
        matches!(rejected, Err(Error::PortTaken { server: "postgres", port }) if port == taken),
        "{rejected:?}"
    );
}

#[tokio::test]
async fn below_a_private_directory_root_gets_an_error_that_names_the_directory() {
    let root = tempfile::tempdir().expect("temporary directory");
    let path = root.path().canonicalize().expect("a path");
    let mode = || fs::metadata(&path).expect("temporary directory").permissions().mode() & 0o777;
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("closed");

    let started = Postgres::start(&path.join("data"), &options()).await;

    // Only root has to run Postgres as another user.
    match Account::for_postgres().expect("an account") {
        Some(_) => {
            let message = started.expect_err("inaccessible").to_string();
            assert!(message.contains(&format!("cannot traverse {};", path.display())), "{message}");
        }
        None => assert!(started.is_ok(), "{started:?}"),
    }
    assert_eq!(mode(), 0o700);
}

#[test]
fn missing_programs_are_reported_with_an_install_command() {
    let root = tempfile::tempdir().expect("temporary directory");

    let missing = Programs::find(&Options::found_in(root.path()), root.path()).expect_err("missing");

    let message = missing.to_string();
    assert!(message.contains("neither on PATH nor in "), "{message}");
    assert!(message.contains("`apt install postgresql`"), "{message}");
}
