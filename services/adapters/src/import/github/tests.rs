//! Exported deployments of GitHub, translated by a stand-in for the reader of webhooks.

use ledger_codec::cloudevents::Envelope;

use super::*;
use crate::hooks::{HookKind, Webhook, WebhookSettings};
use crate::translation::NativeEvent;

/// Translates what the tests need of the body of a webhook.
fn translate(body: &Value) -> Result<Translation, NotUnderstood> {
    let (deployment, status) = (&body["deployment"], &body["deployment_status"]);
    let verb = match status["state"].as_str() {
        Some("success") => "succeeded",
        Some("failure" | "error") => "failed",
        Some("in_progress") => "started",
        Some("inactive") => return Ok(Translation::Ignored("superseded".to_owned())),
        _ => return Err(NotUnderstood::new("/deployment_status/state", "is unknown")),
    };
    let event = json!({
        "specversion": "1.0",
        "id": format!("deployment_status/{}", status["id"]),
        "source": body["repository"]["html_url"],
        "type": format!("io.releaseledger.deploy.{verb}.v1"),
        "time": status["created_at"],
        "data": {
            "environment": deployment["environment"],
            "service": body["repository"]["name"],
            "release": { "version": deployment["ref"], "commit": deployment["sha"] },
        },
    });
    Envelope::parse(event.to_string().as_bytes())
        .map_err(|error| NotUnderstood::new("", error.to_string()))?;
    let Value::Object(event) = event else { return Err(NotUnderstood::new("", "no object")) };
    Ok(Translation::Events(vec![NativeEvent(event)]))
}

const API: &str = "https://api.github.com/repos/example/search-api";

fn deployment(id: u64) -> Value {
    json!({
        "url": format!("{API}/deployments/{id}"), "id": id, "sha": "6973793ef3442b763e3f66547344994e5c778d6c",
        "ref": "v948", "task": "deploy", "payload": {}, "environment": "production", "description": null,
        "creator": { "login": "mira", "type": "User" }, "created_at": "2026-08-01T11:58:00Z",
        "updated_at": "2026-08-01T12:00:00Z", "repository_url": API,
    })
}

fn status(id: u64, of: u64, state: &str, time: &str) -> Value {
    json!({
        "url": format!("{API}/deployments/{of}/statuses/{id}"), "id": id, "state": state, "created_at": time,
        "updated_at": time, "environment": "production", "deployment_url": format!("{API}/deployments/{of}"),
        "repository_url": API, "log_url": "",
    })
}

fn events(imported: &Imported) -> Vec<(u64, String)> {
    let phrase = |event: &NativeEvent| format!("{} {}", event.0["id"], event.0["type"]).replace('"', "");
    imported.events.iter().map(|event| (event.row, phrase(&event.event))).collect()
}

#[test]
fn statuses_become_events_wherever_they_stand() {
    let statuses = [
        status(8, 42, "success", "2026-08-01T12:00:00Z"),
        status(7, 42, "in_progress", "2026-08-01T11:59:00Z"),
    ];
    let mut with_statuses = deployment(42);
    with_statuses["statuses"] = json!(statuses);
    let names = |rows: [u64; 2]| {
        vec![
            (rows[0], "deployment_status/7 io.releaseledger.deploy.started.v1".to_owned()),
            (rows[1], "deployment_status/8 io.releaseledger.deploy.succeeded.v1".to_owned()),
        ]
    };
    assert_eq!(events(&read(&json!([with_statuses]).to_string(), translate)), names([1, 1]));
    let separate = format!("{}\n{}", json!(statuses), json!([deployment(42)]));
    assert_eq!(events(&read(&separate, translate)), names([2, 1]));
    let source = &read(&separate, translate).events[0].event.0["source"];
    assert_eq!(source, "https://github.com/example/search-api");
}

#[test]
fn a_page_that_is_exported_twice_counts_once() {
    let page = json!([deployment(42), status(8, 42, "success", "2026-08-01T12:00:00Z")]);
    let imported = read(&format!("{page}{page}"), translate);
    assert_eq!((imported.events.len(), imported.repeated), (1, 1));
    assert!(imported.problems.is_empty(), "{:?}", imported.problems);
}

#[test]
fn a_deployment_without_a_status_deployed_nothing() {
    let imported = read(&json!([deployment(42)]).to_string(), translate);
    assert!(imported.events.is_empty());
    assert!(imported.ignored[0].detail.contains("its outcome is not known"));
}

#[test]
fn rows_that_are_not_understood_are_problems() {
    let file = [
        status(1, 7, "success", "2026-08-01T12:00:00Z"),
        deployment(42),
        status(2, 42, "sideways", "2026-08-01T12:00:00Z"),
        status(3, 42, "inactive", "2026-08-01T12:00:00Z"),
        json!({ "message": "Bad credentials", "status": "401" }),
        json!({ "repository_url": API }),
        json!(17),
    ];
    let imported = read(&format!("{} [", json!(file)), translate);
    assert_eq!(imported.problems.iter().map(|note| note.row).collect::<Vec<_>>(), [1, 3, 5, 6, 7, 8]);
    assert!(imported.problems[2].detail.contains("Bad credentials"));
    assert_eq!(imported.ignored.iter().map(|note| note.row).collect::<Vec<_>>(), [4]);
    assert!(imported.events.is_empty());
}

#[test]
fn the_reader_of_webhooks_records_an_export_as_it_records_the_deliveries() {
    let config = WebhookSettings::of_kind(HookKind::GitHub);
    let webhook = Webhook::offline(config).expect("settings");
    let now = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");
    let mut transient = deployment(43);
    transient["transient_environment"] = json!(true);
    let file = json!([
        deployment(42),
        status(9, 42, "inactive", "2026-08-02T12:00:00Z"),
        status(8, 42, "success", "2026-08-01T12:00:00Z"),
        status(7, 42, "in_progress", "2026-08-01T11:59:00Z"),
        status(6, 42, "queued", "2026-08-01T11:58:00Z"),
        transient,
        status(5, 43, "success", "2026-08-01T12:00:00Z"),
    ]);
    let imported = read_as_webhook(&file.to_string(), &webhook, now);
    assert!(imported.problems.is_empty(), "{:?}", imported.problems);
    assert_eq!(
        events(&imported),
        [
            (4, "deployment_status/7 io.releaseledger.deploy.started.v1".to_owned()),
            (3, "deployment_status/8 io.releaseledger.deploy.succeeded.v1".to_owned()),
        ]
    );
    assert_eq!(imported.ignored.iter().map(|note| note.row).collect::<Vec<_>>(), [2, 5, 7]);
    let delivery = json!({
        "action": "created", "deployment": deployment(42),
        "deployment_status": status(8, 42, "success", "2026-08-01T12:00:00Z"),
        "repository": {
            "full_name": "example/search-api", "name": "search-api", "html_url": "https://github.com/example/search-api",
        },
        "sender": { "login": "mira" }, "workflow": null, "workflow_run": null,
    });
    let body = delivery.to_string();
    let request = Request::new([("X-GitHub-Event", "deployment_status")], body.as_bytes());
    let delivered = hooks::translate(&webhook, &request, now);
    assert_eq!(delivered, Ok(Translation::Events(vec![imported.events[1].event.clone()])));
}

#[test]
fn the_source_is_the_repositorys_page_as_in_webhooks() {
    for (url, expected) in [
        ("https://api.github.com/repos/a/b", "https://github.com/a/b"),
        ("https://git.example/api/v3/repos/a/b", "https://git.example/a/b"),
        ("https://api.team.ghe.com/repos/a/b", "https://team.ghe.com/a/b"),
    ] {
        assert_eq!(repository(url), (expected.to_owned(), "a/b".to_owned()));
    }
}
