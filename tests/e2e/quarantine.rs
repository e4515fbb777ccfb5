//! The life of a message that cannot be understood: it survives restarts, waits for other settings, and is recorded once.

use std::path::{Path, PathBuf};

use ledger_tests::{Client, Command, Outcome, Response, Servers, Service};
use reqwest::Method;
use serde_json::{Value, json};

use crate::PROGRAM;

pub(crate) const SECRET: &str = "a secret of thirty-two characters";

pub(crate) fn delivery() -> Value {
    json!({"id": "run-7", "time": "2026-08-01T12:00:00Z", "stage": "Prod (EU)", "app": "search-api", "version": "v948"})
}

/// Writes the settings of a webhook, and returns their file.
pub(crate) fn settings(folder: &Path, more: &str) -> PathBuf {
    let (file, secret) = (folder.join("ledger.toml"), folder.join("deployer.secret"));
    std::fs::write(&secret, SECRET).expect("written");
    let text = format!(
        "[hooks.deployer]\nkind = \"generic\"\nsecret_files = [{secret:?}]\nmapping.source = \"urn:deployer\"\n\
         mapping.rules = [{{ event = {{ type = \"deploy.succeeded\", id = {{ pointer = \"/id\" }}, time = {{ pointer = \
         \"/time\" }}, data = {{ environment = {{ pointer = \"/stage\" }}, service = {{ pointer = \"/app\" }}, release = \
         {{ version = {{ pointer = \"/version\" }} }} }} }} }}]\n{more}"
    );
    std::fs::write(&file, text).expect("written");
    file
}

async fn deliver(client: &Client) -> Response {
    let request = client.request(Method::POST, "/v1/hooks/deployer").bearer_auth(SECRET);
    Client::send(request.json(&delivery())).await
}

async fn quarantine(service: &Service, arguments: &[&str]) -> Outcome {
    let url = format!("--url={}", service.url());
    let all: Vec<&str> = ["quarantine"].into_iter().chain(arguments.iter().copied()).chain([&*url]).collect();
    Command::start(PROGRAM, &all).outcome().await
}

#[tokio::test]
async fn a_message_waits_for_other_settings_and_is_recorded_once() {
    let mut servers = Servers::start().await;
    let file = settings(servers.folder(), "");
    let config = format!("--config={}", file.display());
    let mut service = Service::start(PROGRAM, &servers, &[&config]).await;

    let kept = deliver(&service.client()).await;
    assert_eq!(kept.status, 202, "{}", kept.text);
    let id = kept.body["quarantine_id"].as_str().expect("an id").to_owned();
    service.kill().await;
    servers.kill_nats().await;
    servers.start_nats().await;
    service.restart().await;

    let listed = quarantine(&service, &["list"]).await;
    assert!(
        listed.stdout.contains(&id) && listed.stdout.contains("map it in names.environments"),
        "{}",
        listed.stdout
    );
    let shown = quarantine(&service, &["show", &id, "--message"]).await;
    assert_eq!(shown.stdout.trim_end(), delivery().to_string());
    let too_early = quarantine(&service, &["retry", &id]).await;
    assert_eq!(too_early.code, Some(1), "{}", too_early.stderr);
    assert_eq!(too_early.stderr, "error: 1 of 1 messages are still in quarantine\n");

    settings(servers.folder(), "names.environments = { \"Prod (EU)\" = \"production\" }\n");
    service.terminate().await;
    service.restart().await;
    // Killed after the events are recorded and before the end of the quarantine is: the same message again.
    let delivered = deliver(&service.client()).await.ok();
    let retried = quarantine(&service, &["retry", "--all"]).await;

    let position = delivered["events"][0]["position"].as_u64().expect("a position");
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    assert_eq!(retried.stdout, format!("{id}: duplicate of position {position}\n"));
    let listed = quarantine(&service, &["list"]).await;
    assert_eq!(listed.stdout, "no messages\n");
    let events =
        service.client().get(&format!("/v1/events?type=deploy.succeeded&wait_for={position}")).await.ok();
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1), "{events}");
}

#[tokio::test]
async fn a_payload_can_be_tried_without_a_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = settings(folder.path(), "names.environments = { \"Prod (EU)\" = \"production\" }\n");
    let payload = folder.path().join("payload.json");
    std::fs::write(&payload, delivery().to_string()).expect("written");
    let payload = payload.display().to_string();
    let config = format!("--config={}", file.display());

    let tried = Command::start(PROGRAM, &["hook", "test", "deployer", &payload, &config]).outcome().await;
    settings(folder.path(), "");
    let not_understood =
        Command::start(PROGRAM, &["hook", "test", "deployer", &payload, &config]).outcome().await;
    let unknown = Command::start(PROGRAM, &["hook", "test", "deploy", &payload, &config]).outcome().await;

    assert_eq!(tried.code, Some(0), "{}", tried.stderr);
    assert!(tried.stdout.starts_with("deploy.succeeded 2026-08-01T12:00:00Z "), "{}", tried.stdout);
    assert_eq!(not_understood.code, Some(1));
    assert!(not_understood.stdout.starts_with("not understood: "), "{}", not_understood.stdout);
    assert_eq!(unknown.stderr, "error: the settings have no webhook deploy; they have: deployer\n");
}
