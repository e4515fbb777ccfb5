//! A point in the past does not change, regardless of later events.

use std::collections::BTreeMap;

use ledger_tests::{Client, Servers, Service, deploy, event};
use serde_json::json;

use crate::PROGRAM;

#[tokio::test]
async fn a_point_in_the_past_does_not_change() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let mut responses = BTreeMap::new();

    for hour in 10..20 {
        let before = record_hour(&client, hour).await;
        query_point(&client, before, hour, &mut responses).await;
    }

    for (query, response) in &responses {
        assert_eq!(&client.text(query).await, response, "{query}");
    }
    let fresh = format!("--projections-url={}", servers.fresh_database("again").await);
    let again = Service::start(PROGRAM, &servers, &[&fresh]).await;
    again.client().wait_for_projections(client.positions().await.0).await;
    for (query, response) in &responses {
        assert_eq!(&again.client().text(query).await, response, "projected again: {query}");
    }
}

/// Records deploys on time, late and to a slot, a traffic switch, and a late removal; returns the last position.
async fn record_hour(client: &Client, hour: u32) -> u64 {
    let id = |what: &str| format!("{what}-{hour}");
    let time = |minute: u32| format!("2026-08-01T{hour}:{minute:02}:00Z");
    let long_ago = format!("2026-07-{hour}T12:00:00Z");
    let (green, web) = (["blue", "green"][hour as usize % 2], json!({"version": format!("v{hour}-green")}));
    let lane = json!({"environment": "production", "service": "web", "slot": green});
    let in_slot = json!({"environment": "production", "service": "web", "slot": green, "release": web});
    let api = json!({"environment": "production", "service": "api"});
    let events = [
        deploy(&id("web"), &time(0), "production", "web", &format!("v{hour}")),
        deploy(&id("late-web"), &long_ago, "production", "web", &format!("late-v{hour}")),
        deploy(&id("api"), &time(10), "production", "api", &format!("v{hour}")),
        event(&id("slot"), "deploy.succeeded", &time(20), in_slot),
        event(&id("switch"), "traffic.switched", &time(30), lane),
        event(&id("late-removal"), "deploy.removed", &long_ago, api),
    ];
    let lines = events.map(|event| event.to_string());
    let positions = client.record_all(&lines).await;
    positions.into_iter().max().expect("events were recorded")
}

/// Sends all queries about a point that is in the past.
async fn query_point(client: &Client, position: u64, hour: u32, responses: &mut BTreeMap<String, String>) {
    let state = "/v1/environments/production/state";
    let queries = [
        format!("{state}?at={position}"),
        format!("{state}?at={}", position - 3),
        format!("{state}?at=latest&known_at={position}"),
        format!("{state}?at=2026-08-01T{hour}:15:00Z&known_at={position}"),
        format!("{state}?at=2026-07-{hour}T12:00:00Z&known_at={position}"),
        format!("{state}?at=2026-07-15T12:00:00Z&known_at={position}"),
        format!("/v1/environments/production/diff?from={}&to={position}", position - 5),
        format!("/v1/events/{position}"),
    ];
    for query in queries {
        let response = client.text(&query).await;
        responses.insert(query, response);
    }
}
