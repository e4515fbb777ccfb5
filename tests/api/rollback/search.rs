//! The search for the last known-good point in a long history, compared with a walk over all points.

use ledger_tests::{Client, InProcess, Random, at, event};
use serde_json::{Value, json};

/// Number of events of a random history.
const EVENTS: u64 = 700;
/// Number of positions at which the search is compared.
const COMPARISONS: u64 = 8;

/// Policy and number of services of an environment, and how often in 100 events each kind of evidence is recorded there.
struct Character {
    environment: &'static str,
    policy: Value,
    services: usize,
    passes: u64,
    failures: u64,
    passes_of_all: u64,
    marks: u64,
}

fn characters() -> Vec<Character> {
    let character = |environment, policy, services, [passes, failures, passes_of_all, marks]: [u64; 4]| {
        Character { environment, policy, services, passes, failures, passes_of_all, marks }
    };
    vec![
        character("never-checked", json!({"required_validations": ["smoke"]}), 3, [0, 10, 0, 0]),
        character("rarely-checked", json!({"required_validations": ["smoke"]}), 1, [2, 2, 0, 0]),
        character("twice-checked", json!({"required_validations": ["smoke", "load"]}), 1, [40, 1, 0, 0]),
        character("checked-as-a-whole", json!({"required_validations": ["smoke"]}), 3, [4, 2, 2, 0]),
        character("marked", json!({"required_validations": ["smoke"]}), 2, [1, 5, 0, 1]),
        character("slow", json!({"required_validations": ["smoke"], "soak_seconds": 400}), 2, [40, 2, 0, 0]),
        character("without-policy", json!({}), 3, [1, 5, 0, 0]),
    ]
}

/// Returns the events of a random history: deploys, removals and checks, with returns to older versions.
fn history(character: &Character, random: &mut Random) -> Vec<String> {
    let mut events = Vec::new();
    let mut push = |minutes: u64, kind: &str, mut data: Value| {
        data["environment"] = character.environment.into();
        let id = format!("{}-{}", character.environment, events.len());
        events.push(event(&id, kind, &at(minutes), data).to_string());
    };
    push(0, "environment.declared", json!({"policy": character.policy}));
    let mut versions = [0; 3];
    for number in 1..EVENTS {
        let minutes = number * 2 + random.below(2);
        let lane = random.below(character.services as u64) as usize;
        let service = ["api", "web", "worker"][lane];
        let check = if random.percent(60) { "smoke" } else { "load" };
        let version = |number: u64| json!({"version": format!("v{number}")});
        let release = json!({"service": service, "release": version(versions[lane]), "check": check});
        let kind = random.below(100);
        if kind < character.passes {
            push(minutes, "validation.passed", release);
        } else if kind < character.passes + character.failures {
            push(minutes, "validation.failed", release);
        } else if kind < character.passes + character.failures + character.passes_of_all {
            push(minutes, "validation.passed", json!({"check": check}));
        } else if random.percent(2) {
            push(minutes, "deploy.removed", json!({"service": service}));
        } else {
            versions[lane] = if random.percent(5) { random.below(number) } else { number };
            push(
                minutes,
                "deploy.succeeded",
                json!({"service": service, "release": version(versions[lane])}),
            );
        }
    }
    events
}

/// Marks some points of an environment as known good.
async fn mark(client: &Client, character: &Character, positions: &[u64], random: &mut Random) {
    for number in 0..EVENTS * character.marks / 100 {
        let position = random.pick(positions);
        let point =
            json!({"environment": character.environment, "position": position, "status": "known_good"});
        let mut mark = event(&format!("mark-{number}"), "release_point.marked", &at(EVENTS * 3), point);
        mark["data"]["actor"] = json!({"type": "person", "name": "ada"});
        mark["data"]["reason"] = "checked by hand".into();
        client.record(&mark).await.ok();
    }
}

/// Returns the position of the last known-good point by examining every point.
async fn walk(client: &Client, environment: &str, known_at: u64) -> Option<u64> {
    let mut before = known_at + 1;
    loop {
        let path =
            format!("/v1/environments/{environment}/points?limit=100&known_at={known_at}&before={before}");
        let page = client.get(&path).await.ok();
        let points = page["points"].as_array().expect("points");
        if let Some(found) = points.iter().find(|point| point["status"] == "known_good") {
            return found["position"].as_u64();
        }
        before = page["next"].as_u64()?;
    }
}

async fn search(client: &Client, environment: &str, known_at: u64) -> Option<u64> {
    let path = format!("/v1/environments/{environment}/points/last-known-good?known_at={known_at}");
    let found = client.get(&path).await;
    (found.status == 200).then(|| found.ok()["point"]["position"].as_u64().expect("a position"))
}

#[tokio::test]
async fn the_search_finds_the_point_that_a_walk_over_all_points_finds() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let mut found = Vec::new();
    for (index, character) in characters().iter().enumerate() {
        let mut random = Random::of(7, &[index as u64]);
        let positions = client.record_all(&history(character, &mut random)).await;
        mark(&client, character, &positions, &mut random).await;
        let (head, _) = client.positions().await;
        client.wait_for_projections(head).await;
        let (first, last) = (positions[0], *positions.last().expect("a position"));

        let mut known = 0;
        for comparison in 0..COMPARISONS {
            let known_at = if comparison == 0 { head } else { random.within(first + 1, last) };
            let expected = walk(&client, character.environment, known_at).await;
            let searched = search(&client, character.environment, known_at).await;
            assert_eq!(searched, expected, "{} as known at {known_at}", character.environment);
            known += usize::from(expected.is_some());
        }
        found.push((character.environment, known));
    }
    // Both results occur, so that the comparison can fail.
    assert_eq!(found[0], ("never-checked", 0));
    assert!(found[1..].iter().all(|(_, known)| *known > 0), "{found:?}");
}
