//! No silent rollback: a rollback is recorded with its plan against the state that it was made from, or rejected.

use ledger_tests::{Servers, Service, Story, deploy, rollback_events};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::PROGRAM;

/// Number of concurrent requests.
const REQUESTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn no_silent_rollback() {
    let servers = Servers::start().await;
    let one = Service::start(PROGRAM, &servers, &[]).await;
    let other = Service::start(PROGRAM, &servers, &[]).await;
    let clients = [one.client(), other.client()];
    let story = Story::on(&clients[0]);
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    let head = story.deploy("web", "v2", 3).await;
    clients[1].wait_for_projections(head).await;
    let plan = story.plan(json!({"to": "last-known-good"})).await.ok();

    let mut requests = JoinSet::new();
    for number in 0..REQUESTS {
        let client = clients[number % 2].clone();
        requests.spawn(async move {
            let request = json!({
                "to": "last-known-good",
                "rollback_id": format!("rollback-{number}"),
                "reason": "Customers see errors.",
                "initiated_by": {"type": "person", "name": format!("person-{number}")},
            });
            Story::on(&client).request(request).await
        });
    }
    let responses = requests.join_all().await;

    let recorded: Vec<&Value> =
        responses.iter().filter(|response| response.status == 201).map(|response| &response.body).collect();
    let rejected = responses.iter().filter(|response| response.status == 409);
    let problems: Vec<&str> = rejected.map(|response| response.problem()).collect();
    assert_eq!(recorded.len(), 1);
    assert_eq!(problems, vec!["rollback-under-way"; REQUESTS - 1]);
    let requests = rollback_events(&clients[0], "rollback.requested").await;
    assert_eq!(requests.len(), 1);
    let data = &requests[0]["event"]["data"];
    assert_eq!(data["rollback_id"], recorded[0]["rollback_id"]);
    assert_eq!(data["plan_digest"], plan["plan_digest"]);
    assert_eq!(data["plan"]["from"], head);
    assert_eq!(data["plan"]["steps"][0]["to"], json!({"version": "v1"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_through_two_processes_at_once_is_recorded_once_and_answered_alike() {
    let servers = Servers::start().await;
    let one = Service::start(PROGRAM, &servers, &[]).await;
    let other = Service::start(PROGRAM, &servers, &[]).await;
    let clients = [one.client(), other.client()];
    let stories = [Story::on(&clients[0]), Story::on(&clients[1])];
    let first = stories[0].deploy("web", "v1", 1).await;
    let mut head = stories[0].deploy("web", "v2", 2).await;

    for round in 0..10 {
        clients[1].wait_for_projections(head).await;
        let id = format!("r-{round}");
        let (a, b) = tokio::join!(
            stories[0].request(rollback_request(first, &id)),
            stories[1].request(rollback_request(first, &id))
        );

        assert_eq!((a.status, b.status), (201, 201), "{} {}", a.text, b.text);
        let mut statuses = [&a, &b].map(|response| response.body["status"].as_str().expect("a status"));
        statuses.sort_unstable();
        assert_eq!(statuses, ["duplicate", "recorded"]);
        assert_eq!(a.body["position"], b.body["position"]);
        // The environment takes the next request only after the end of this one.
        let cancelled = json!({"environment": "production", "rollback_id": id});
        let cancelled = ledger_tests::event(
            &format!("cancel-{round}"),
            "rollback.cancelled",
            "2026-08-01T10:09:00Z",
            cancelled,
        );
        head = clients[0].record_and_wait(&cancelled).await;
    }
}

#[tokio::test]
async fn a_request_against_an_outdated_state_is_rejected_with_the_new_plan() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let first_plan = story.plan(json!({"to": first.to_string()})).await;
    let tag = first_plan.header("etag").to_owned();
    story.deploy("api", "v7", 3).await;

    let moved = story.request_if_match(&tag, rollback_request(first, "r1")).await;
    let new_tag = format!("\"{}\"", moved.body["plan"]["environment_position"]);
    let again = story.request_if_match(&new_tag, rollback_request(first, "r1")).await;
    let twice = story.request_if_match(&new_tag, rollback_request(first, "r1")).await;

    assert_eq!((moved.status, moved.problem()), (412, "environment-moved"), "{}", moved.text);
    let services = |plan: &Value| -> Vec<String> {
        let steps = plan["steps"].as_array().expect("steps").iter();
        steps.map(|step| step["service"].as_str().expect("a service").to_owned()).collect()
    };
    assert_eq!(services(&first_plan.body), ["web"]);
    assert_eq!(services(&moved.body["plan"]), ["web", "api"], "api is removed last");
    assert_eq!((again.status, &again.body["status"]), (201, &"recorded".into()), "{}", again.text);
    assert_eq!((twice.status, &twice.body["status"]), (201, &"duplicate".into()), "{}", twice.text);
    assert_eq!(twice.body["position"], again.body["position"]);
}

#[tokio::test]
async fn a_rollback_requested_event_must_carry_the_plan_of_the_ledger() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    let second = story.deploy("web", "v2", 2).await;
    let plan = story.plan(json!({"to": first.to_string()})).await.ok();
    let request = |id: &str, from: u64, version: &str, digest: &Value| {
        ledger_tests::event(
            id,
            "rollback.requested",
            "2026-08-01T10:09:00Z",
            json!({
                "environment": "production", "rollback_id": id, "to": first, "plan_digest": digest,
                "plan": {"from": from, "steps": [{
                    "wave": 1, "service": "web", "action": "redeploy",
                    "from": {"version": "v2"}, "to": {"version": version},
                }]},
                "initiated_by": {"type": "person", "name": "mia"}, "reason": "Customers see errors.",
            }),
        )
    };
    let digest = &plan["plan_digest"];

    let other_plan = client.record(&request("a", second, "v0", digest)).await;
    let older = client.record(&request("b", first, "v1", digest)).await;
    let valid = client.record(&request("c", second, "v1", digest)).await;

    assert_eq!((other_plan.status, other_plan.problem()), (409, "plan-changed"), "{}", other_plan.text);
    assert_eq!((older.status, older.problem()), (412, "environment-moved"), "{}", older.text);
    assert_eq!(valid.status, 201, "{}", valid.text);
    let head = client.positions().await.1;
    assert_eq!(head, second + 1, "the rejected events are not recorded");
    client.record_and_wait(&deploy("later", "2026-08-01T10:10:00Z", "production", "web", "v3")).await;
}

fn rollback_request(to: u64, id: &str) -> Value {
    json!({
        "to": to.to_string(),
        "rollback_id": id,
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    })
}
