//! Requests among other events: their order in a body, and their decisions while others record.

use futures::future::join_all;
use ledger_tests::{InProcess, Story, at, deploy, event, rollback_request};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_a_body_is_decided_after_the_events_before_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let freeze = |id: &str, kind: &str, minutes: u64| {
        let data = json!({"environment": "production", "freeze_id": "f-1", "reason": "test"});
        event(id, kind, &at(minutes), data).to_string()
    };
    let lines = [
        freeze("lift-too-early", "freeze.lifted", 1),
        freeze("start", "freeze.started", 2),
        deploy("deploy", &at(3), "production", "web", "v1").to_string(),
        freeze("lift", "freeze.lifted", 4),
        freeze("lift-again", "freeze.lifted", 5),
        freeze("start-again", "freeze.started", 6),
        "no event".to_owned(),
        deploy("deploy-after", &at(7), "production", "web", "v2").to_string(),
    ];

    let response = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;

    let results = response.lines();
    let statuses: Vec<&str> = results.iter().map(|result| result["status"].as_str().expect("text")).collect();
    let recorded = ["recorded"; 3];
    let expected =
        [&["rejected"], &recorded[..], &["rejected"], &recorded[..1], &["invalid"], &recorded[..1]].concat();
    assert_eq!(statuses, expected, "{}", response.text);
    let positions: Vec<u64> = results.iter().filter_map(|result| result["position"].as_u64()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5], "the events of a body keep their order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_switch_to_a_slot_that_is_not_there_says_so_alone_and_in_a_batch() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let switch = |id: &str, minutes: u64, slot: &str| {
        let data = json!({"environment": "production", "service": "web", "slot": slot});
        event(id, "traffic.switched", &at(minutes), data)
    };
    let blue = json!({
        "environment": "production", "service": "web", "slot": "blue", "release": {"version": "v1"},
    });
    client.record(&event("deploy", "deploy.succeeded", &at(1), blue)).await.ok();

    let right = client.record(&switch("blue", 2, "blue")).await.ok();
    let wrong = client.record(&switch("gren", 3, "gren")).await.ok();
    let batch = json!([switch("blue-again", 4, "blue"), switch("purple", 5, "purple")]).to_string();
    let batch = client.post("/v1/events", "application/cloudevents-batch+json", batch).await.ok();

    assert_eq!(right["anomalies"], json!([]), "{right}");
    assert_eq!(wrong["anomalies"], json!(["switch_pending"]), "{wrong}");
    let of_batch = [&batch[0]["anomalies"], &batch[1]["anomalies"]];
    assert_eq!(of_batch, [&json!([]), &json!(["switch_pending"])], "{batch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_decided_while_its_environment_changes_all_the_time() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await.to_string();
    story.deploy("web", "v2", 2).await;
    let reporters = (0..4).map(|reporter| {
        let client = client.clone();
        async move {
            for number in 0..100 {
                let id = format!("api-{reporter}-{number}");
                client.record(&deploy(&id, &at(3), "production", "api", &id)).await.ok();
            }
        }
    });
    let requested = async {
        let mut outcomes = Vec::new();
        for number in 0..10 {
            outcomes.push(story.request(rollback_request(&first, &format!("r-{number}"))).await);
        }
        outcomes
    };

    let (_, outcomes) = tokio::join!(join_all(reporters), requested);

    let problems: Vec<&str> = outcomes.iter().map(|outcome| outcome.problem()).collect();
    assert_eq!(outcomes[0].status, 201, "{}", outcomes[0].text);
    assert_eq!(problems[1..], ["rollback-under-way"; 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_at_once_one_is_recorded() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await.to_string();
    story.deploy("web", "v2", 2).await;

    let same = join_all((0..20).map(|_| story.request(rollback_request(&first, "same")))).await;
    let others = (0..20).map(|number| rollback_request(&first, &format!("other-{number}")));
    let others = join_all(others.map(|request| story.request(request))).await;

    let recorded = same.iter().filter(|outcome| outcome.body["status"] == "recorded").count();
    let duplicates = same.iter().filter(|outcome| outcome.body["status"] == "duplicate").count();
    assert_eq!((recorded, duplicates), (1, 19), "{:?}", same.iter().map(|one| &one.text).collect::<Vec<_>>());
    assert!(others.iter().all(|outcome| outcome.problem() == "rollback-under-way"));
}

/// A body is recorded in groups of 500 events.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_decided_after_the_groups_of_its_body_before_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let deploys = (1..=500).map(|number| {
        let version = format!("v{number}");
        deploy(&version, &at(number), "production", "web", &version).to_string()
    });
    let point = json!({"environment": "production", "position": 500, "status": "bad", "reason": "test"});
    let mark = event("mark", "release_point.marked", &at(501), point).to_string();
    let lines: Vec<String> = deploys.chain([mark]).collect();

    let positions = client.record_all(&lines).await;

    assert_eq!(positions.last(), Some(&501));
}

#[tokio::test]
async fn an_unknown_parameter_of_a_request_to_record_is_an_error() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let body = deploy("deploy", &at(1), "production", "web", "v1").to_string();

    let refused = client.post("/v1/events?tenant=a", "application/cloudevents+json", body).await;

    assert_eq!((refused.status, refused.problem()), (400, "invalid-parameter"), "{}", refused.text);
    assert_eq!(client.positions().await.1, 0, "nothing is recorded");
}
