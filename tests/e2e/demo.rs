//! The demo command: it records its history only into a ledger without other events.

use serde_json::json;

use crate::execute::Setup;

#[tokio::test]
async fn the_demo_does_not_mix_with_entries_of_others() {
    let setup = Setup::start().await;
    let demo = ["demo", "--events=1500", "--json"];

    let first = setup.run(&demo).await;
    let again = setup.run(&demo).await;
    let client = setup.service.client();
    let event = ledger_tests::deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    client.record_and_wait(&event).await;
    let head = client.positions().await.1;
    let rejected = setup.run(&demo).await;

    let counts = |outcome: &ledger_tests::Outcome| {
        let counts: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("a summary");
        (counts["recorded"].clone(), counts["duplicates"].clone())
    };
    assert_eq!(counts(&first), (json!(1500), json!(0)), "{}", first.stderr);
    assert_eq!(counts(&again), (json!(0), json!(1500)), "{}", again.stderr);
    assert_eq!((rejected.code, &*rejected.stdout), (Some(3), ""), "{}", rejected.stderr);
    let expected =
        format!("error: the ledger has entries that are not the demo's, the first at position {head}: ");
    assert!(rejected.stderr.starts_with(&expected), "{}", rejected.stderr);
    assert_eq!(rejected.stderr.lines().count(), 1, "{}", rejected.stderr);
    assert_eq!(client.positions().await.1, head);
}
