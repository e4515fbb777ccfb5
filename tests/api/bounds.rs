//! Bounds over all connections: bodies, answers, slow clients, connections, followers, and the size of answers.

use std::time::Duration;

use ledger_domain::Position;
use ledger_projections::Waited;
use ledger_tests::{Client, EventStream, InProcess, RawConnection, Story, deploy, rollback_request};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A page whose answer is larger than a megabyte.
const LARGE_PAGE: &str = "/docs/swagger-ui-bundle.js";

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", "v1")
}

/// Returns the head of a request with a body of this length.
fn post(kind: &str, length: usize) -> String {
    format!("POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
}

/// Begins a batch of a megabyte and sends this many bytes of it.
async fn begin_batch(service: &InProcess, bytes: usize) -> RawConnection {
    let mut connection = service.connect().await;
    connection.send(post("application/cloudevents-batch+json", 1 << 20)).await;
    connection.send(" ".repeat(bytes)).await;
    connection
}

/// Waits until a large page is answered with this status.
async fn until_large_page_has(client: &Client, status: u16) -> String {
    let found = async {
        loop {
            let response = client.get(LARGE_PAGE).await;
            if response.status == status {
                return response.header("retry-after").to_owned();
            }
        }
    };
    timeout(WAIT_LIMIT, found).await.expect("the status")
}

/// Asks for many large pages and takes none.
async fn take_nothing(service: &InProcess) -> RawConnection {
    let mut connection = service.connect().await;
    connection.send(format!("GET {LARGE_PAGE} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(50)).await;
    connection
}

#[tokio::test]
async fn unfinished_bodies_take_a_bounded_amount_of_memory_and_small_events_are_still_recorded() {
    let service = InProcess::start(&["--http-max-body-bytes=100000"]).await;
    let client = service.client();
    let mut first = begin_batch(&service, 80_000).await;
    let mut second = begin_batch(&service, 80_000).await;

    let refused = tokio::select! {
        answer = first.answer() => answer,
        answer = second.answer() => answer,
    };

    let refused = refused.expect("an answer");
    assert_eq!((refused.status, &*refused.problem(), refused.header("retry-after")), (503, "busy", "1"));
    assert_eq!(client.record(&web("1")).await.status, 201);
    drop((first, second));
    let batch = format!("[{}{}]", web("2"), " ".repeat(80_000));
    let recorded = async {
        while client.post("/v1/events", "application/cloudevents-batch+json", batch.clone()).await.status
            != 201
        {}
    };
    timeout(WAIT_LIMIT, recorded).await.expect("the memory is free again");
}

#[tokio::test]
async fn answers_that_are_not_taken_have_a_bound_and_small_answers_are_still_given() {
    let service = InProcess::start(&["--http-max-answer-bytes=2500000"]).await;
    let client = service.client();
    let greedy = take_nothing(&service).await;

    let retry_after = until_large_page_has(&client, 503).await;

    assert_eq!(retry_after, "1");
    assert_eq!(client.record(&web("1")).await.status, 201);
    assert_eq!(client.get("/v1/position").await.status, 200);
    drop(greedy);
    until_large_page_has(&client, 200).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_disconnected() {
    let limits = ["--http-max-answer-bytes=2500000", "--http-write-timeout-seconds=1"];
    let service = InProcess::start(&limits).await;
    let client = service.client();
    let _greedy = take_nothing(&service).await;
    until_large_page_has(&client, 503).await;

    until_large_page_has(&client, 200).await;
}

#[tokio::test]
async fn a_body_that_drips_is_ended_with_a_problem() {
    let limits = ["--http-read-timeout-seconds=1", "--http-min-bytes-per-second=1000"];
    let service = InProcess::start(&limits).await;
    for kind in ["application/cloudevents-batch+json", "application/x-ndjson"] {
        let mut connection = service.connect().await;
        connection.send(post(kind, 1 << 20)).await;
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let dripping = async {
            loop {
                pause.tick().await;
                tokio::select! {
                    biased;
                    answer = connection.answer() => return answer,
                    () = std::future::ready(()) => {}
                }
                connection.send(" ").await;
            }
        };
        let answer = timeout(WAIT_LIMIT, dripping).await.expect("an end").expect("an answer");
        assert_eq!((answer.status, &*answer.problem()), (408, "body-too-slow"), "{kind}");
    }
}

/// Events of lines wait until their group is complete.
#[tokio::test]
async fn lines_that_wait_for_further_ones_take_a_bounded_amount_of_memory() {
    let service = InProcess::start(&["--http-max-body-bytes=100000"]).await;
    let mut connection = service.connect().await;
    connection.send(post("application/x-ndjson", 1 << 20)).await;
    for id in ["1", "2"] {
        let mut event = web(id);
        event["filler"] = "x".repeat(60_000).into();
        connection.send(format!("{event}\n")).await;
    }

    let refused = connection.answer().await.expect("an answer before the end of the body");

    assert_eq!((refused.status, &*refused.problem()), (503, "busy"));
    assert_eq!(service.client().record(&web("3")).await.status, 201);
}

#[tokio::test]
async fn large_lines_are_recorded_in_groups_of_a_bounded_size_in_their_order() {
    let service = InProcess::start(&[]).await;
    let lines = (0..40).map(|number| {
        let mut event = web(&format!("large-{number}"));
        event["filler"] = "x".repeat(60_000).into();
        event.to_string()
    });

    let positions = service.client().record_all(&lines.collect::<Vec<_>>()).await;

    assert_eq!(positions, (1..=40).collect::<Vec<u64>>());
}

/// The answer to an event waits for its annotations, but not while the projections have much to apply before it.
#[tokio::test]
async fn a_wait_for_a_position_that_is_far_away_ends_at_once() {
    let service = InProcess::start(&[]).await;
    let position = Story::on(&service.client()).deploy("web", "v1", 1).await;
    let projections = service.projections().await;
    let wait = async |wanted: u64, max_lag: u64| {
        let waited = projections.wait_for_within(Position::new(wanted), max_lag, 2 * WAIT_LIMIT);
        timeout(WAIT_LIMIT, waited).await.expect("an end").expect("the database answers")
    };

    assert_eq!(wait(position + 11, 10).await, Waited::StillAt(Position::new(position)));
    assert_eq!(wait(position, 0).await, Waited::Reached);
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let service = InProcess::start(&["--http-max-connections=4"]).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(service.connect().await);
    }

    let mut new = service.connect().await;
    let event = web("1").to_string();
    new.send(post("application/cloudevents+json", event.len()) + &event).await;

    assert_eq!(new.answer().await.map(|answer| answer.status), Some(201));
    assert_eq!(idle[0].closed().await, "", "the first is idle longest");
}

#[tokio::test]
async fn while_all_connections_are_in_use_others_are_refused_and_health_is_answered() {
    let service = InProcess::start(&["--http-max-connections=2"]).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut connection = service.connect().await;
        // The service asks for the body only when it handles the request.
        let expecting =
            post("application/cloudevents+json", 100).replace("host: a", "host: a\r\nexpect: 100-continue");
        connection.send(expecting).await;
        assert_eq!(connection.answer().await.map(|answer| answer.status), Some(100));
        busy.push(connection);
    }
    let ask = async |path: &str| {
        let mut connection = service.connect().await;
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.header("connection"), "close", "{path}");
        (answer.status, answer.header("retry-after").to_owned())
    };

    assert_eq!(ask("/livez").await, (200, String::new()));
    assert_eq!(ask("/metrics").await.0, 200);
    assert_eq!(ask("/v1/position").await, (503, "1".to_owned()));
    drop(busy);
    let served = async { while ask_for_position(&service).await != 200 {} };
    timeout(WAIT_LIMIT, served).await.expect("the connections are free again");
}

async fn ask_for_position(service: &InProcess) -> u16 {
    let mut connection = service.connect().await;
    connection.send("GET /v1/position HTTP/1.1\r\nhost: a\r\n\r\n").await;
    connection.answer().await.expect("an answer").status
}

/// A client could ask for many answers ahead, and take none of them.
#[tokio::test]
async fn a_connection_has_one_answer_at_a_time_however_many_requests_are_sent_ahead() {
    let service = InProcess::start(&["--http-max-answer-bytes=2000000"]).await;
    let mut connection = take_nothing(&service).await;

    for number in 0..50 {
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, 200, "answer {number} has room, since the one before is taken");
    }
}

#[tokio::test]
async fn followers_have_a_bound() {
    let service = InProcess::start(&["--http-max-followers=2"]).await;
    let client = service.client();
    let follow =
        async || client.request(Method::GET, "/v1/rollbacks/stream").send().await.expect("a response");
    let (first, second, third) = (follow().await, follow().await, follow().await);

    assert_eq!(
        [first.status(), second.status(), third.status()].map(|status| status.as_u16()),
        [200, 200, 503]
    );
    drop(first);
    let admitted = async { while follow().await.status().as_u16() != 200 {} };
    timeout(WAIT_LIMIT, admitted).await.expect("the place of the first is free");
}

/// Reads the positions of a stream until it has sent `last`.
async fn positions(client: Client, path: String, last: u64) -> Vec<u64> {
    EventStream::open(&client, &path).await.positions(last).await
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_that_join_at_any_time_receive_every_entry_once() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    let start = story.deploy("web", "v2", 2).await;
    // Each rollback has two entries.
    let last = start + 2 * 40;
    let mut followers = Vec::new();
    for number in 0..40 {
        let after = start + number;
        let path = format!("/v1/rollbacks/stream?after={start}");
        followers.push((start, tokio::spawn(positions(client.clone(), path, last))));
        let id = format!("r-{number}");
        story.request(rollback_request("-1", &id)).await.ok();
        let path = format!("/v1/rollbacks/stream?environment=production&after={after}");
        followers.push((after, tokio::spawn(positions(client.clone(), path, last))));
        story.record("rollback.cancelled", 3, json!({"rollback_id": id})).await;
    }

    for (after, follower) in followers {
        let received = follower.await.expect("a follower");
        assert_eq!(received, (after + 1..=last).collect::<Vec<_>>(), "after {after}");
    }
}

#[tokio::test]
async fn an_answer_to_bad_lines_stays_small() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let lines = format!("{}{}\n", "x\n".repeat(49_999), web("1"));

    let response = client.post("/v1/events", "application/x-ndjson", lines).await;

    let results = response.lines();
    let events: u64 = results.iter().map(|result| result["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!((response.status, events), (207, 50_000));
    assert!(response.text.len() < 300_000, "{} bytes", response.text.len());
    assert_eq!(results.last().expect("a result")["status"], "recorded");
}

#[tokio::test]
async fn a_point_names_its_first_reasons_and_counts_all() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let checks: Vec<String> = (0..64).map(|number| format!("check-{number}")).collect();
    for service in ["web", "api", "job"] {
        story.deploy(service, "v1", 1).await;
    }
    story.record("environment.declared", 2, json!({"policy": {"required_validations": checks}})).await;

    let point = client.get("/v1/environments/production/points/latest").await.ok()["point"].clone();

    assert_eq!(point["reason_count"], 192);
    assert_eq!(point["reasons"].as_array().map(Vec::len), Some(100));
}

#[tokio::test]
async fn a_policy_with_too_many_names_is_rejected() {
    let service = InProcess::start(&[]).await;
    let story = Story::on(&service.client());
    let checks: Vec<String> = (0..65).map(|number| format!("check-{number}")).collect();

    let policy = json!({"policy": {"required_validations": checks}});
    let rejected = story.try_record("environment.declared", 2, policy).await;

    assert_eq!((rejected.status, rejected.problem()), (422, "invalid-event"));
    assert_eq!(rejected.body["errors"][0]["pointer"], "/data/policy/required_validations");
}
