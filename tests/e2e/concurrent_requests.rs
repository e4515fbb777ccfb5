//! The same request at once through two processes.

use futures::future::join_all;
use ledger_tests::{Servers, Service, Story, rollback_request};

use crate::PROGRAM;

/// Number of rounds; each requests one rollback and cancels it.
const ROUNDS: u64 = 10;
/// Number of requests that each process gets at once.
const AT_ONCE: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_through_two_processes_is_recorded_once_and_answered_alike() {
    let servers = Servers::start().await;
    let one = Service::start(PROGRAM, &servers, &[]).await;
    let other = Service::start(PROGRAM, &servers, &[]).await;
    let (one, other) = (one.client(), other.client());
    let stories = [Story::on(&one), Story::on(&other)];
    let first = stories[0].deploy("web", "v1", 1).await.to_string();
    stories[0].deploy("web", "v2", 2).await;

    for round in 0..ROUNDS {
        let id = format!("r-{round}");
        let requests = stories.iter().cycle().take(2 * AT_ONCE);
        let outcomes = join_all(requests.map(|story| story.request(rollback_request(&first, &id)))).await;

        let texts: Vec<&str> = outcomes.iter().map(|outcome| outcome.text.as_str()).collect();
        let status =
            |status: &str| outcomes.iter().filter(|outcome| outcome.body["status"] == status).count();
        assert_eq!((status("recorded"), status("duplicate")), (1, 2 * AT_ONCE - 1), "{texts:?}");
        let positions = outcomes.iter().map(|outcome| &outcome.body["position"]);
        assert!(positions.clone().all(|position| *position == outcomes[0].body["position"]), "{texts:?}");
        let position = outcomes[0].body["position"].as_u64().expect("a position");
        other.wait_for_projections(position).await;
        let cancel = serde_json::json!({"rollback_id": id, "reason": "the next round follows"});
        stories[1].record("rollback.cancelled", 3 + round, cancel).await;
    }
}
