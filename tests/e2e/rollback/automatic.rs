//! Automatic rollback: one decision for each failed check, even if controllers are killed or run in parallel.

use ledger_tests::{Servers, Service, Story, controller_decisions, rollback_events, text};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Number of environments, and so of failed checks, in the test with killed controllers.
const ENVIRONMENTS: usize = 50;

fn policy() -> Value {
    json!({
        "required_validations": ["smoke"],
        // The events are months old.
        "automatic_rollback": {
            "checks": ["canary"], "cool_down_seconds": 3_600, "at_most_a_day": 2,
            "at_most_age_seconds": 315_360_000,
        },
    })
}

#[tokio::test]
async fn a_failed_check_causes_a_rollback_to_the_last_known_good_point_or_a_declined_event() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(policy(), 0).await;
    let good = story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 3).await;
    story.check_passed("web", "v2", "smoke", 4).await;

    let failed = story.check_failed("web", "v2", "canary", 5).await;
    let first = controller_decisions(&client, 1).await;
    let again = story.check_failed("web", "v2", "canary", 6).await;
    let both = controller_decisions(&client, 2).await;
    story.check_failed("web", "v2", "load", 7).await;

    let data = &first[0]["event"]["data"];
    assert_eq!(
        (&data["automatic"], &data["cause"], &data["to"]),
        (&true.into(), &failed.into(), &good.into())
    );
    assert_eq!(first[0]["event"]["source"], "urn:release-ledger:rollback-controller");
    assert_eq!(data["policy"], 1);
    let declined = both.iter().find(|entry| text(&entry["event"]["type"]).contains("declined"));
    let data = &declined.expect("a declined event")["event"]["data"];
    assert_eq!(data["cause"], again);
    assert!(text(&data["reason"]).contains("is under way"), "{data}");
}

#[tokio::test]
async fn after_a_failed_rollback_the_controller_is_disabled_until_the_policy_is_declared_again() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let mut policy = policy();
    policy["automatic_rollback"]["cool_down_seconds"] = 0.into();
    story.declare_policy(policy.clone(), 0).await;
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 3).await;
    story.check_failed("web", "v2", "canary", 4).await;
    let requested = controller_decisions(&client, 1).await;
    let id = text(&requested[0]["event"]["data"]["rollback_id"]);
    story.record("rollback.started", 5, json!({"rollback_id": id})).await;
    story.record("rollback.failed", 6, json!({"rollback_id": id, "reason": "The cluster was away."})).await;

    story.check_failed("web", "v2", "canary", 7).await;
    let while_disabled = controller_decisions(&client, 2).await;
    story.declare_policy(policy, 8).await;
    story.check_failed("web", "v2", "canary", 9).await;
    let after_enabling = controller_decisions(&client, 3).await;

    let reasons: Vec<String> =
        while_disabled.iter().map(|entry| text(&entry["event"]["data"]["reason"])).collect();
    assert!(reasons.iter().any(|reason| reason.contains("switched off")), "{reasons:?}");
    let requests = after_enabling.iter().filter(|entry| text(&entry["event"]["type"]).contains("requested"));
    assert_eq!(requests.count(), 2, "the new policy enables it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_parallel_controllers_make_one_decision_for_each_failed_check() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let mut first = Service::start(PROGRAM, &servers, &["--only=controller"]).await;
    let second = Service::start(PROGRAM, &servers, &["--only=controller"]).await;
    let stories: Vec<Story> =
        (0..ENVIRONMENTS).map(|n| Story::of(&client, &format!("environment-{n}"))).collect();
    for story in &stories {
        story.declare_policy(policy(), 0).await;
        story.deploy("web", "v1", 1).await;
        story.check_passed("web", "v1", "smoke", 2).await;
        story.deploy("web", "v2", 3).await;
    }

    for (number, story) in stories.iter().enumerate() {
        story.check_failed("web", "v2", "canary", 4).await;
        if number % 7 == 3 {
            first.kill().await;
            first.restart().await;
        }
    }
    let all = controller_decisions(&client, ENVIRONMENTS).await;

    let requests = rollback_events(&client, "rollback.requested").await;
    let mut environments: Vec<String> =
        requests.iter().map(|entry| text(&entry["event"]["data"]["environment"])).collect();
    environments.sort_unstable();
    environments.dedup();
    assert_eq!((all.len(), requests.len(), environments.len()), (ENVIRONMENTS, ENVIRONMENTS, ENVIRONMENTS));
    drop(second);
    // A controller that starts with all entries finds a decision for every check.
    let head = client.positions().await.1;
    first.kill().await;
    first.restart().await;
    let story = &stories[0];
    story.check_failed("web", "v2", "canary", 5).await;
    controller_decisions(&client, ENVIRONMENTS + 1).await;
    assert_eq!(client.positions().await.1, head + 2, "the check and one decision");
}
