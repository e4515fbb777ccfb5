//! The stream of all events: its filters and formats, where it begins, and many followers over a burst.

use futures::future::join_all;
use ledger_tests::{Client, EventStream, InProcess, SentEvent, Story, at, deploy, event};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns deploys of a service to an environment, one a line.
fn deploys(environment: &str, service: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
    let line = |number: u64| {
        let id = format!("{environment}-{service}-{number}");
        deploy(&id, &at(number), environment, service, &format!("v{number}")).to_string()
    };
    numbers.map(line).collect()
}

async fn start() -> (InProcess, Client) {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    (service, client)
}

/// Returns the entries of a stream from the past, up to the end of the ledger.
async fn past(client: &Client, query: &str) -> Vec<SentEvent> {
    let (_, head) = client.positions().await;
    let mut stream = EventStream::open(client, &format!("/v1/events/stream?after=0{query}")).await;
    let mut entries = Vec::new();
    loop {
        let event = stream.next().await.expect("the stream continues");
        let is_last = event.id >= Some(head);
        if event.name != "position" {
            entries.push(event);
        }
        if is_last {
            return entries;
        }
    }
}

fn ids(entries: &[SentEvent]) -> Vec<u64> {
    entries.iter().filter_map(|entry| entry.id).collect()
}

#[tokio::test]
async fn a_stream_sends_the_entries_that_meet_all_conditions_of_its_query() {
    let (_service, client) = start().await;
    let mut check = event(
        "c",
        "validation.passed",
        &at(5),
        json!({"environment": "staging", "service": "web", "check": "e2e", "release": {"version": "v1"}}),
    );
    check["correlationid"] = "run-7".into();
    check["causationid"] = "deploy-1".into();
    let mut lines = deploys("staging", "web", 1..3);
    lines.extend(deploys("production", "web", 1..3));
    lines.extend(deploys("production", "api", 1..3));
    lines.push(check.to_string());
    client.record_all(&lines).await;

    for (query, expected) in [
        ("", vec![1, 2, 3, 4, 5, 6, 7]),
        ("&environment=production", vec![3, 4, 5, 6]),
        ("&service=web", vec![1, 2, 3, 4, 7]),
        ("&environment=production&service=api", vec![5, 6]),
        ("&type=validation.passed", vec![7]),
        ("&type=validation.passed,io.releaseledger.deploy.succeeded.v1&service=web", vec![1, 2, 3, 4, 7]),
        ("&type=validation,deploy.started", vec![7]),
        ("&correlation=run-7", vec![7]),
        ("&causation=deploy-1", vec![7]),
        ("&causation=run-7", vec![]),
        ("&service=none", vec![]),
    ] {
        assert_eq!(ids(&past(&client, query).await), expected, "{query}");
        let page = client.get(&format!("/v1/events?after=0{query}")).await;
        if page.status == 200 {
            let events = page.body["events"].as_array().expect("events");
            let listed: Vec<_> = events.iter().filter_map(|entry| entry["position"].as_u64()).collect();
            assert_eq!(listed, expected, "the list has the same: {query}");
        }
    }
}

/// The whole commit of the release of [`named`].
const COMMIT: &str = "69737932aab37fbd9b4d5a3d6c2fa7a0b8b2a2c1";

/// Returns a deploy that names more than its lane.
fn named(id: &str, target: &str, actor: &str, commit: &str, artifact: &str) -> String {
    let mut event = deploy(id, &at(1), "production", &format!("web-{id}"), &format!("v{id}"));
    event["data"]["target"] = target.into();
    event["data"]["actor"] = json!({"type": "user", "name": actor});
    event["data"]["release"]["commit"] = commit.into();
    event["data"]["release"]["artifact"] = artifact.into();
    event.to_string()
}

/// The list selects entries by SQL. A stream selects those of the past in the same way, and later ones in memory.
#[tokio::test]
async fn a_stream_of_the_past_and_a_live_one_select_the_same_entries_as_the_list() {
    let (_service, client) = start().await;
    let digest = format!("sha256:{}", "1e".repeat(32));
    let package = "pkg:cargo/rand@0.9.1";
    let checksum = |digits: &str| format!("{package}?checksum=sha256:{}", digits.repeat(32));
    let upper = COMMIT.to_ascii_uppercase();
    let other = format!("6973793f{}", &COMMIT[8..]);
    let deploys = |set: &str| {
        let id = |number: u64| format!("{set}{number}");
        let failed = json!({"environment": "production", "service": "plain", "release": {"version": "v7"}});
        [
            named(&id(1), "eu", "ada", COMMIT, &format!("pkg:oci/web@{digest}")),
            named(&id(2), "eu", "grace", &COMMIT[..8], &format!("registry.example/web@{digest}")),
            named(&id(3), "us", "ada", &upper[..7], package),
            named(&id(4), "us", "linus", "697379", &checksum("1e")),
            named(&id(5), "eu", "Ada", &upper, &checksum("2f")),
            named(&id(6), "us", "Grace", &other, "pkg:cargo/other@0.1.0"),
            deploy(&id(7), &at(2), "production", "plain", "v6").to_string(),
            event(&id(8), "deploy.failed", &at(3), failed).to_string(),
        ]
    };
    let encoded = |text: String| text.replace('?', "%3F").replace('=', "%3D");
    let queries = [
        "status=failed".to_owned(),
        "status=succeeded,failed&target=eu".to_owned(),
        "type=deploy&status=failed".to_owned(),
        "target=us".to_owned(),
        "target=default".to_owned(),
        "actor=ada".to_owned(),
        "actor=ada&target=eu".to_owned(),
        format!("commit={COMMIT}"),
        format!("commit={upper}"),
        format!("commit={}", &COMMIT[..9]),
        format!("commit={}", &COMMIT[..7]),
        format!("commit={}", &COMMIT[..3]),
        "commit=6973793f".to_owned(),
        format!("artifact={digest}"),
        format!("artifact=pkg:oci/web@{digest}"),
        format!("artifact=other.example/api@{digest}"),
        format!("artifact={package}"),
        format!("artifact={}", encoded(checksum("1e"))),
        format!("artifact={}", encoded(checksum("3a"))),
    ];
    let mut live = Vec::new();
    for query in &queries {
        live.push(EventStream::open(&client, &format!("/v1/events/stream?after=0&{query}")).await);
    }

    // The same twice: an entry that a stream selects and the list does not is found before the last one.
    client.record_all(&deploys("a")).await;
    client.record_all(&deploys("b")).await;

    for (query, live) in queries.iter().zip(live) {
        let page = client.get(&format!("/v1/events?{query}")).await.ok();
        let events = page["events"].as_array().expect("events");
        let listed: Vec<_> = events.iter().filter_map(|entry| entry["position"].as_u64()).collect();
        assert!(!listed.is_empty(), "{query}");
        let past = EventStream::open(&client, &format!("/v1/events/stream?after=0&{query}")).await;
        for (name, mut stream) in [("past", past), ("live", live)] {
            let mut sent = Vec::new();
            while sent.len() < listed.len() {
                let entry = stream.next_entry().await;
                sent.extend(entry.unwrap_or_else(|| panic!("{query}, {name}: {sent:?} and no more")).id);
            }
            assert_eq!(sent, listed, "{query}, {name}");
        }
    }
}

#[tokio::test]
async fn a_stream_rejects_conditions_on_the_time_and_the_identity() {
    let (_service, client) = start().await;
    for name in ["since", "until", "source", "id"] {
        let response = client.get(&format!("/v1/events/stream?{name}=2026-08-01T10:00:00Z")).await;
        assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{}", response.text);
        let detail = response.body["detail"].as_str().expect("a detail");
        assert!(detail.contains(name) && detail.contains("GET /v1/events"), "{detail}");
    }
    let response = client.get("/v1/events/stream?artifact=web").await;
    assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{}", response.text);
}

#[tokio::test]
async fn the_data_is_the_entry_of_the_history_or_a_cdevent() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..2)).await;
    let listed = client.get("/v1/events").await.ok()["events"][0].clone();
    let request = client.request(Method::GET, "/v1/events/1").header("accept", "application/cdevents+json");
    let cdevent = Client::send(request).await.ok();

    let entries = past(&client, "").await;
    let cdevents = past(&client, "&format=cdevents").await;

    let sent = |data: Value| vec![SentEvent { id: Some(1), name: "deploy.succeeded".into(), data }];
    assert_eq!(entries, sent(listed));
    assert_eq!(cdevents, sent(cdevent));
}

#[tokio::test]
async fn a_stream_continues_from_any_position_of_the_past_and_then_lives() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..601)).await;

    for after in [0, 1, 299, 600] {
        let path = format!("/v1/events/stream?after={after}");
        let mut stream = EventStream::open(&client, &path).await;
        let first = stream.next().await.expect("an event");
        assert_eq!((first.id, first.name.as_str()), (Some(after), "position"), "where it begins");
        if after < 600 {
            assert_eq!(stream.positions(600).await, (after + 1..=600).collect::<Vec<_>>(), "after {after}");
        }
        let last = client.record_all(&deploys("staging", &format!("after-{after}"), 1..2)).await[0];
        assert_eq!(stream.positions(last).await, (601..=last).collect::<Vec<_>>(), "after {after}");
    }
}

#[tokio::test]
async fn by_default_a_stream_begins_now_and_says_where() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..4)).await;

    let mut stream = EventStream::open(&client, "/v1/events/stream").await;
    let begins = stream.next().await.expect("an event");
    client.record_all(&deploys("production", "api", 1..2)).await;
    let entry = stream.next_entry().await.expect("an entry");

    assert_eq!(begins, SentEvent { id: Some(3), name: "position".into(), data: json!({"position": 3}) });
    assert_eq!(entry.id, Some(4));
    assert_eq!(stream.header("x-accel-buffering"), "no");
    assert_eq!(stream.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn a_client_that_wants_few_entries_learns_the_position_up_to_which_it_has_all() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..301)).await;

    let mut stream = EventStream::open(&client, "/v1/events/stream?after=0&service=none").await;
    let (begins, caught_up) = (stream.next().await, stream.next().await);

    let position =
        |id| Some(SentEvent { id: Some(id), name: "position".into(), data: json!({"position": id}) });
    assert_eq!((begins, caught_up), (position(0), position(300)));
}

#[tokio::test]
async fn the_last_event_id_takes_precedence() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..6)).await;

    let stream = EventStream::try_open(&client, "/v1/events/stream?after=1", Some(3)).await;

    assert_eq!(stream.expect("a stream").positions(5).await, [4, 5]);
}

#[tokio::test]
async fn a_stream_with_an_invalid_start_or_condition_is_rejected() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..2)).await;
    let last = async |id: &str| {
        Client::send(client.request(Method::GET, "/v1/events/stream").header("last-event-id", id)).await
    };

    for wrong in ["-1", "x", "1.5", "99999999999999999999"] {
        let response = last(wrong).await;
        assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{wrong}");
        assert!(response.text.contains("Last-Event-ID"), "{}", response.text);
    }
    let beyond = last("2").await;
    assert_eq!((beyond.status, beyond.problem()), (400, "position-ahead"), "{}", beyond.text);
    for query in
        ["after=2", "after=x", "format=xml", "type=deplo", "environment=a%20b", "limit=3", "source=a"]
    {
        let response = client.get(&format!("/v1/events/stream?{query}")).await;
        assert_eq!(response.status, 400, "{query}: {}", response.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_followers_receive_every_entry_of_a_burst_once() {
    let (_service, client) = start().await;
    client.record_all(&deploys("production", "web", 1..11)).await;
    let (start, last) = (10, 10 + 6 * 25);
    let mut followers = Vec::new();
    for _ in 0..500 {
        followers.push(EventStream::open(&client, "/v1/events/stream").await);
    }

    let received = tokio::spawn(join_all(
        followers.into_iter().map(|mut stream| async move { stream.positions(last).await }),
    ));
    for burst in 0..6 {
        client.record_all(&deploys("production", &format!("burst-{burst}"), 1..26)).await;
    }

    let expected: Vec<u64> = (start + 1..=last).collect();
    for (number, positions) in received.await.expect("followers").into_iter().enumerate() {
        assert_eq!(positions, expected, "follower {number}");
    }
}

/// More than the socket's buffers and the log of the feed have: the client reads the tables in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_reads_slowly_delays_no_other_and_misses_nothing() {
    let service = InProcess::start(&["--only=http,projector", "--http-write-timeout-seconds=120"]).await;
    let client = service.client();
    let (count, batch) = (800, 100);
    let mut slow = EventStream::open(&client, "/v1/events/stream?after=0").await;
    let mut fast = EventStream::open(&client, "/v1/events/stream?after=0").await;
    let fast = tokio::spawn(async move { fast.positions(count).await });
    for number in 0..count / batch {
        let lines = (0..batch).map(|line| {
            let mut event = deploy(&format!("{number}-{line}"), &at(1), "production", "web", "v1");
            event["filler"] = "x".repeat(20_000).into();
            event.to_string()
        });
        client.record_all(&lines.collect::<Vec<_>>()).await;
    }

    let fast = fast.await.expect("a follower");
    let slow = slow.positions(count).await;

    let expected: Vec<u64> = (1..=count).collect();
    assert_eq!(fast, expected);
    assert_eq!(slow, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_with_different_conditions_share_one_feed() {
    let (_service, client) = start().await;
    let story = Story::on(&client);
    let start = story.deploy("web", "v1", 1).await;
    let queries =
        ["service=web", "service=api", "type=deploy.succeeded", "environment=staging", "correlation=none"];
    let mut followers = Vec::new();
    for query in queries {
        let mut stream = EventStream::open(&client, &format!("/v1/events/stream?{query}")).await;
        followers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            while ids.len() < 2
                && let Some(entry) = stream.next_entry().await
            {
                ids.extend(entry.id);
            }
            ids
        }));
    }

    let mut lines = deploys("production", "web", 10..12);
    lines.extend(deploys("production", "api", 10..12));
    lines.extend(deploys("staging", "job", 10..12));
    let positions = client.record_all(&lines).await;

    assert_eq!(positions.first(), Some(&(start + 1)));
    let silent = followers.pop().expect("a follower");
    let mut received = Vec::new();
    for follower in followers {
        received.push(follower.await.expect("a follower"));
    }
    let pair = |first: usize| vec![positions[first], positions[first + 1]];
    assert_eq!(received, [pair(0), pair(2), pair(0), pair(4)]);
    assert!(!silent.is_finished(), "nothing has this correlation");
    silent.abort();
}
