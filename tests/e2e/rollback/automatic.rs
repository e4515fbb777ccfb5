//! Rollback by itself: one answer to each failed check, whatever is killed or doubled.

use ledger_tests::{Client, Servers, Service};
use serde_json::{Value, json};

use super::{Story, rollback_events, text};
use crate::PROGRAM;

/// Environments, and so failed checks, of the story in which controllers are killed.
const ENVIRONMENTS: usize = 50;

/// Waits until so many answers of the controller are in the ledger, and answers them.
pub(super) async fn answers(client: &Client, wanted: usize) -> Vec<Value> {
    let told = async {
        loop {
            let mut all = rollback_events(client, "rollback.requested").await;
            all.extend(rollback_events(client, "rollback.declined").await);
            if all.len() >= wanted {
                return all;
            }
            let head = client.position().await.1;
            // Whatever comes next may be it: wait for the projections to have one more, or look again.
            client.get(&format!("/v1/position?wait_for={head}&wait_ms=100")).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("the controller answers")
}

fn policy() -> Value {
    json!({
        "required_validations": ["smoke"],
        // The story is some months old.
        "automatic_rollback": {
            "checks": ["canary"], "cool_down_seconds": 3_600, "at_most_a_day": 2, "at_most_age_seconds": 315_360_000,
        },
    })
}

#[tokio::test]
async fn a_failed_check_leads_back_to_the_last_known_good_point_or_to_a_word_why_not() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declared(policy(), 0).await;
    let good = story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 3).await;
    story.passed("web", "v2", "smoke", 4).await;

    let failed = story.failed("web", "v2", "canary", 5).await;
    let first = answers(&client, 1).await;
    let again = story.failed("web", "v2", "canary", 6).await;
    let both = answers(&client, 2).await;
    story.failed("web", "v2", "load", 7).await;

    let data = &first[0]["event"]["data"];
    assert_eq!(
        (&data["automatic"], &data["cause"], &data["to"]),
        (&true.into(), &failed.into(), &good.into())
    );
    assert_eq!(first[0]["event"]["source"], "urn:release-ledger:rollback-controller");
    assert_eq!(data["policy"], 1);
    let declined = both.iter().find(|entry| text(&entry["event"]["type"]).contains("declined"));
    let data = &declined.expect("a word why not")["event"]["data"];
    assert_eq!(data["cause"], again);
    assert!(text(&data["reason"]).contains("is under way"), "{data}");
}

#[tokio::test]
async fn after_a_failed_rollback_the_controller_is_off_until_the_policy_is_declared_again() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let mut policy = policy();
    policy["automatic_rollback"]["cool_down_seconds"] = 0.into();
    story.declared(policy.clone(), 0).await;
    story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 3).await;
    story.failed("web", "v2", "canary", 4).await;
    let requested = answers(&client, 1).await;
    let id = text(&requested[0]["event"]["data"]["rollback_id"]);
    story.tell("rollback.started", 5, json!({"rollback_id": id})).await;
    story.tell("rollback.failed", 6, json!({"rollback_id": id, "reason": "The cluster was away."})).await;

    story.failed("web", "v2", "canary", 7).await;
    let off = answers(&client, 2).await;
    story.declared(policy, 8).await;
    story.failed("web", "v2", "canary", 9).await;
    let on = answers(&client, 3).await;

    let reasons: Vec<String> = off.iter().map(|entry| text(&entry["event"]["data"]["reason"])).collect();
    assert!(reasons.iter().any(|reason| reason.contains("switched off")), "{reasons:?}");
    let requests = on.iter().filter(|entry| text(&entry["event"]["type"]).contains("requested"));
    assert_eq!(requests.count(), 2, "the new policy switched it on again");
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_killed_and_doubled_give_one_answer_to_each_failed_check() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let mut first = Service::start(PROGRAM, &servers, &["--only=controller"]).await;
    let second = Service::start(PROGRAM, &servers, &["--only=controller"]).await;
    let stories: Vec<Story> =
        (0..ENVIRONMENTS).map(|n| Story::of(&client, &format!("environment-{n}"))).collect();
    for story in &stories {
        story.declared(policy(), 0).await;
        story.deployed("web", "v1", 1).await;
        story.passed("web", "v1", "smoke", 2).await;
        story.deployed("web", "v2", 3).await;
    }

    for (number, story) in stories.iter().enumerate() {
        story.failed("web", "v2", "canary", 4).await;
        if number % 7 == 3 {
            first.kill().await;
            first.start_again().await;
        }
    }
    let all = answers(&client, ENVIRONMENTS).await;

    let requests = rollback_events(&client, "rollback.requested").await;
    let mut environments: Vec<String> =
        requests.iter().map(|entry| text(&entry["event"]["data"]["environment"])).collect();
    environments.sort_unstable();
    environments.dedup();
    assert_eq!((all.len(), requests.len(), environments.len()), (ENVIRONMENTS, ENVIRONMENTS, ENVIRONMENTS));
    drop(second);
    // One that begins anew with all of it finds every check answered.
    let head = client.position().await.1;
    first.kill().await;
    first.start_again().await;
    let story = &stories[0];
    story.failed("web", "v2", "canary", 5).await;
    answers(&client, ENVIRONMENTS + 1).await;
    assert_eq!(client.position().await.1, head + 2, "the check, and the one answer to it");
}
