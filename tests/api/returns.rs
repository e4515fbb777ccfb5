//! Returns to earlier releases: by what a lane ran when, not by the order in which reports arrived.

use ledger_tests::{Client, InProcess, Story, text};
use serde_json::{Value, json};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// Returns the position to which the event at a position returns its lane.
async fn returns_to(client: &Client, position: u64) -> Option<u64> {
    client.get(&format!("/v1/events/{position}")).await.ok()["returns_to"].as_u64()
}

fn to_slot(slot: &str, version: &str) -> Value {
    json!({"service": "web", "slot": slot, "release": {"version": version}})
}

fn switch(slot: &str) -> Value {
    json!({"service": "web", "slot": slot})
}

#[tokio::test]
async fn rule_19_a_release_that_was_only_idle_is_no_release_to_return_to() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.record("deploy.succeeded", 0, to_slot("blue", "v2")).await;
    story.record("traffic.switched", 60, switch("blue")).await;
    // Late: so the lane ran v3 from the switch on, and never v2.
    story.record("deploy.succeeded", 30, to_slot("blue", "v3")).await;

    let last = story.record("deploy.succeeded", 120, to_slot("blue", "v2")).await;

    let entry = client.get(&format!("/v1/events/{last}")).await.ok();
    assert_eq!(text(&entry["went_live"]), "v2", "{entry}");
    assert_eq!(returns_to(&client, last).await, None, "{entry}");
}

#[tokio::test]
async fn rule_19_a_late_report_counts_when_a_lane_returns_to_a_release() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 0).await;
    story.deploy("web", "v3", 120).await;
    let late = story.deploy("web", "v2", 60).await;

    let last = story.deploy("web", "v2", 180).await;

    assert_eq!(returns_to(&client, last).await, Some(late));
}

#[tokio::test]
async fn rule_19_a_slot_deploy_that_is_reported_after_the_switch_counts_from_the_switch() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v2", 1).await;
    story.deploy("web", "v1", 3).await;
    story.record("traffic.switched", 4, switch("green")).await;

    let late = story.record("deploy.succeeded", 2, to_slot("green", "v2")).await;

    let entry = client.get(&format!("/v1/events/{late}")).await.ok();
    assert_eq!(text(&entry["went_live"]), "v2", "{entry}");
    assert_eq!(returns_to(&client, late).await, Some(first), "at the deploy's moment v2 still ran: {entry}");
}

#[tokio::test]
async fn rule_19_another_spelling_of_the_running_artifact_returns_to_nothing() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let deploy = |registry: &str, version: &str| {
        let artifact = format!("{registry}/web@{D1}");
        json!({"service": "web", "release": {"version": version, "artifact": artifact}})
    };
    let first = story.record("deploy.succeeded", 1, deploy("a.example", "v1")).await;
    let respelt = story.record("deploy.succeeded", 2, deploy("b.example", "v1")).await;
    story.deploy("web", "v2", 3).await;

    let back = story.record("deploy.succeeded", 4, deploy("c.example", "v1")).await;
    let respelt_again = story.record("deploy.succeeded", 5, deploy("d.example", "v1")).await;

    assert_eq!(returns_to(&client, respelt).await, None);
    assert_eq!(returns_to(&client, back).await, Some(first));
    assert_eq!(returns_to(&client, respelt_again).await, None, "the lane has returned before");
}

#[tokio::test]
async fn rule_19_an_event_that_turns_out_to_have_no_effect_returns_to_nothing() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let (slots, retired) = (Story::on(&client), Story::of(&client, "staging"));
    let first = slots.deploy("web", "v1", 1).await;
    slots.record("deploy.succeeded", 2, to_slot("green", "v1")).await;
    slots.deploy("web", "v2", 4).await;
    let to_green = slots.record("traffic.switched", 5, switch("green")).await;
    let first_retired = retired.deploy("web", "v1", 1).await;
    retired.deploy("web", "v2", 2).await;
    let deploy = retired.deploy("web", "v1", 5).await;
    assert_eq!(returns_to(&client, to_green).await, Some(first));
    assert_eq!(returns_to(&client, deploy).await, Some(first_retired));

    // Late: so the slot was empty, and the environment retired.
    slots.record("deploy.removed", 3, json!({"service": "web"})).await;
    retired.record("environment.retired", 4, json!({})).await;

    assert_eq!(returns_to(&client, to_green).await, None);
    assert_eq!(returns_to(&client, deploy).await, None);
}

#[tokio::test]
async fn rule_19_a_deploy_counts_from_the_switch_to_its_slot_after_a_switch_without_effect() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.record("deploy.succeeded", 1, to_slot("blue", "v1")).await;
    let first = story.record("traffic.switched", 2, switch("blue")).await;
    story.record("deploy.removed", 3, json!({"service": "web"})).await;
    story.record("traffic.switched", 4, switch("blue")).await;
    story.record("traffic.switched", 6, switch("blue")).await;

    let late = story.record("deploy.succeeded", 5, to_slot("blue", "v1")).await;

    let entry = client.get(&format!("/v1/events/{late}")).await.ok();
    assert_eq!(text(&entry["went_live"]), "v1", "{entry}");
    assert_eq!(returns_to(&client, late).await, Some(first));
}

#[tokio::test]
async fn rule_19_a_lane_returns_by_a_deploy_by_a_switch_and_after_a_removal() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.record("deploy.succeeded", 1, to_slot("blue", "v1")).await;
    let blue = story.record("traffic.switched", 2, switch("blue")).await;
    story.record("deploy.succeeded", 3, to_slot("green", "v2")).await;
    let green = story.record("traffic.switched", 4, switch("green")).await;
    let by_switch = story.record("traffic.switched", 5, switch("blue")).await;
    let by_deploy = story.deploy("web", "v2", 6).await;
    story.record("deploy.removed", 7, json!({"service": "web"})).await;
    let after_removal = story.deploy("web", "v2", 8).await;

    assert_eq!(returns_to(&client, blue).await, None);
    assert_eq!(returns_to(&client, green).await, None);
    assert_eq!(returns_to(&client, by_switch).await, Some(blue));
    assert_eq!(returns_to(&client, by_deploy).await, Some(green));
    assert_eq!(returns_to(&client, after_removal).await, Some(by_deploy));
}
