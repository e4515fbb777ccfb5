//! Rules whose evidence the projector keeps in memory, across a restart.

use ledger_tests::{Servers, Service, Story, text};
use serde_json::json;

use crate::PROGRAM;

#[tokio::test]
async fn rule_3_a_removal_survives_a_restart_and_empties_a_slot_that_is_reported_late() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.record("deploy.removed", 2, json!({"service": "web"})).await;
    story.deploy("web", "v2", 3).await;
    service.kill().await;
    service.restart().await;

    let blue = json!({"service": "web", "slot": "blue", "release": {"version": "v1"}});
    story.record("deploy.succeeded", 1, blue).await;
    let state = story.get("state").await;
    story.record("traffic.switched", 4, json!({"service": "web", "slot": "blue"})).await;

    assert_eq!(state.get("idle"), None, "the removal emptied the slot: {state}");
    let latest = story.get("state").await;
    assert_eq!(text(&latest["lanes"][0]["release"]["version"]), "v2");
}
