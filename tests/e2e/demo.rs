//! The demo is played into an empty ledger, and into none that anything else is in.

use serde_json::json;

use crate::execute::Story;

#[tokio::test]
async fn the_demo_is_not_played_among_entries_of_others() {
    let story = Story::begin().await;
    let demo = ["demo", "--events=1500", "--json"];

    let first = story.ran(&demo).await;
    let again = story.ran(&demo).await;
    let client = story.service.client();
    let report = ledger_tests::deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    client.recorded(&report).await;
    let head = client.position().await.1;
    let refused = story.ran(&demo).await;

    let counts = |outcome: &ledger_tests::Outcome| {
        let counts: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("a summary");
        (counts["recorded"].clone(), counts["duplicates"].clone())
    };
    assert_eq!(counts(&first), (json!(1500), json!(0)), "{}", first.stderr);
    assert_eq!(counts(&again), (json!(0), json!(1500)), "{}", again.stderr);
    assert_eq!((refused.code, &*refused.stdout), (Some(3), ""), "{}", refused.stderr);
    let expected =
        format!("error: the ledger has entries that are not the demo's, the first at position {head}: ");
    assert!(refused.stderr.starts_with(&expected), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    assert_eq!(client.position().await.1, head);
}
