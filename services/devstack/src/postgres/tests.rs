//! The private Postgres, against real servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Pid;

use super::*;
use crate::process::{arguments, running};
use crate::test_path;

fn options() -> Options {
    Options { sync_new: false, ..Options::found_in(test_path()) }
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(postgres.url().expose_secret()).await.expect("connected")
}

async fn store_one(postgres: &Postgres) {
    let mut connection = connect(postgres).await;
    connection.execute("CREATE TABLE kept (id bigint PRIMARY KEY)").await.expect("a table");
    connection.execute("INSERT INTO kept VALUES (4711)").await.expect("a row");
}

async fn stored(postgres: &Postgres) -> i64 {
    sqlx::query_scalar("SELECT id FROM kept").fetch_one(&mut connect(postgres).await).await.expect("a row")
}

/// How many processes of the cluster run.
fn processes(name: &str) -> usize {
    let marks = Marks { name: name.to_owned(), draft: "none".to_owned() };
    running(|arguments| marks.is_any(arguments)).len()
}

#[tokio::test]
async fn a_server_starts_answers_its_password_only_and_stops() {
    let root = tempfile::tempdir().expect("a folder");
    let postgres = Postgres::start(root.path(), &options()).await.expect("started");
    let (name, port) = (postgres.marks.name.clone(), postgres.port());

    store_one(&postgres).await;
    let stranger = PgConnection::connect(&format!("postgres://ledger:wrong@127.0.0.1:{port}/ledger")).await;
    let ran = processes(&name);
    postgres.stop().await.expect("stopped");

    assert!(stranger.is_err());
    // The postmaster, and children found by their titles.
    assert!(ran > 3, "{ran}");
    assert_eq!(processes(&name), 0);
    assert!(!root.path().join("pgdata/postmaster.pid").exists());
}

#[tokio::test]
async fn after_a_crash_with_clients_the_same_port_and_password_and_the_data_are_back() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Postgres::start(root.path(), &options()).await.expect("started");
    store_one(&first).await;
    let _client = connect(&first).await;
    let (name, port, url) = (first.marks.name.clone(), first.port(), first.url().clone());

    first.kill().await.expect("killed");
    let left = processes(&name);
    let stale = root.path().join("pgdata/postmaster.pid").exists();
    let second =
        Postgres::start(root.path(), &Options { port: Some(port), ..options() }).await.expect("again");

    assert_eq!(left, 0);
    assert!(stale);
    assert_eq!(second.url().expose_secret(), url.expose_secret());
    assert_eq!(stored(&second).await, 4711);
}

#[tokio::test]
async fn a_pid_file_whose_number_is_now_somebody_elses_does_not_hinder() {
    let root = tempfile::tempdir().expect("a folder");
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
async fn a_server_left_behind_is_stopped_and_its_data_taken_over() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Postgres::start(root.path(), &options()).await.expect("started");
    store_one(&first).await;
    let orphan = first.pid();
    first.abandon();

    let second = Postgres::start(root.path(), &options()).await.expect("started again");

    let orphan = Pid::from_raw(i32::try_from(orphan).expect("a number")).expect("a number");
    assert_eq!(arguments(orphan), Vec::<String>::new());
    assert_eq!(stored(&second).await, 4711);
}

#[tokio::test]
async fn a_server_that_somebody_else_started_is_refused_and_left_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().canonicalize().expect("a path");
    Postgres::start(&path, &options()).await.expect("started").stop().await.expect("stopped");
    let cluster = Cluster {
        programs: Programs::find(&options(), Path::new(DEBIAN)).expect("programs"),
        account: Account::for_postgres().expect("an account"),
        folder: path.clone(),
        name: "foreign".to_owned(),
    };
    let mut foreign = cluster.launch(port::free().expect("a port")).await.expect("started");

    let refused = Postgres::start(&path, &options()).await;

    assert!(matches!(refused, Err(Error::Occupied { .. })), "{refused:?}");
    assert!(foreign.ended().expect("a state").is_none());
}

#[tokio::test]
async fn dropping_a_server_ends_all_its_processes() {
    let root = tempfile::tempdir().expect("a folder");
    let postgres = Postgres::start(root.path(), &options()).await.expect("started");
    let name = postgres.marks.name.clone();

    drop(postgres);

    assert_eq!(processes(&name), 0);
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("pgdata.draft/base")).expect("left behind");

    let postgres = Postgres::start(root.path(), &options()).await;

    assert!(postgres.is_ok(), "{postgres:?}");
    assert!(!root.path().join("pgdata.draft").exists());
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_the_first_server_goes_on() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Postgres::start(root.path(), &options()).await.expect("started");

    let second = Postgres::start(root.path(), &options()).await;

    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    store_one(&first).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let holder = std::net::TcpListener::bind(("127.0.0.1", port::free().expect("a port"))).expect("bound");
    let taken = holder.local_addr().expect("an address").port();

    let refused = Postgres::start(root.path(), &Options { port: Some(taken), ..options() }).await;

    assert!(
        matches!(refused, Err(Error::PortTaken { server: "postgres", port }) if port == taken),
        "{refused:?}"
    );
}

#[tokio::test]
async fn below_a_closed_folder_root_is_told_which_one_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().canonicalize().expect("a path");
    let mode = || fs::metadata(&path).expect("a folder").permissions().mode() & 0o777;
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("closed");

    let started = Postgres::start(&path.join("data"), &options()).await;

    // Only root has to become somebody else.
    match Account::for_postgres().expect("an account") {
        Some(_) => {
            let told = started.expect_err("closed").to_string();
            assert!(told.contains(&format!("cannot pass through {};", path.display())), "{told}");
        }
        None => assert!(started.is_ok(), "{started:?}"),
    }
    assert_eq!(mode(), 0o700);
}

#[test]
fn missing_programs_are_told_with_what_to_install() {
    let root = tempfile::tempdir().expect("a folder");

    let missing = Programs::find(&Options::found_in(root.path()), root.path()).expect_err("missing");

    let told = missing.to_string();
    assert!(told.contains("neither on PATH nor in "), "{told}");
    assert!(told.contains("`apt install postgresql`"), "{told}");
}
