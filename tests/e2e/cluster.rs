//! A three-node cluster: if any one node fails, no acknowledged event is lost and ingest recovers soon.

use std::time::{Duration, Instant};

use ledger_devstack::nats::User;
use ledger_tests::{Cluster, Node, STREAM, Servers, Service, digests};
use serde_json::Value;

use crate::PROGRAM;
use crate::emitters::Emitters;

/// Upper bound of the unavailability after a failure. The servers detect a missing leader after four to nine seconds;
/// requests to a paused node add their timeout. The bound is twice that.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);
/// More events than can be in flight: when this many more are acknowledged, some were sent after the failure.
const PROGRESS: usize = 100;

/// Waits until events are accepted again, and prints the duration.
#[expect(clippy::print_stderr, reason = "the duration is informative, and not a reason to fail")]
async fn wait_for_recovery(emitters: &Emitters, event: &str) {
    let started = Instant::now();
    let recovered = tokio::time::timeout(RECOVERY_LIMIT, emitters.acknowledged(PROGRESS)).await;
    eprintln!("{event}: events are accepted again after {:?}", started.elapsed());
    recovered.unwrap_or_else(|_| panic!("{event}: no events are accepted for {RECOVERY_LIMIT:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_of_three_nodes_can_be_killed_or_paused_without_loss_of_acknowledged_events() {
    let mut cluster = Cluster::start().await;
    let servers = Servers::start().await;
    let journal = [
        format!("--journal-url={}", cluster.url(User::Ledger)),
        "--journal-replicas=3".to_owned(),
        "--journal-request-timeout-ms=1000".to_owned(),
    ];
    let journal: Vec<&str> = journal.iter().map(String::as_str).collect();
    let service = Service::start(PROGRAM, &servers, &journal).await;
    let client = service.client();
    let emitters = Emitters::start(&client);
    emitters.acknowledged(PROGRESS).await;

    for node in Node::ALL {
        let role = if cluster.leader(STREAM).await == node { "the leader" } else { "a follower" };
        cluster.kill(node).await;
        wait_for_recovery(&emitters, &format!("{role} is killed")).await;
        cluster.restart(node).await;
        wait_for_recovery(&emitters, "the node restarts").await;
        cluster.wait_until_healthy(STREAM).await;
    }
    let leader = cluster.leader(STREAM).await;
    cluster.kill(leader).await;
    wait_for_recovery(&emitters, "the leader is killed").await;
    cluster.restart(leader).await;
    cluster.wait_until_healthy(STREAM).await;
    let leader = cluster.leader(STREAM).await;
    cluster.pause(leader).await;
    wait_for_recovery(&emitters, "the leader is paused").await;
    emitters.acknowledged(10 * PROGRESS).await;
    cluster.resume(leader);
    wait_for_recovery(&emitters, "the leader resumes").await;
    cluster.wait_until_healthy(STREAM).await;
    emitters.acknowledged(PROGRESS).await;
    let acknowledged = emitters.stop().await;

    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let entries = client.entries().await;
    for (position, event) in &acknowledged {
        let entry = &entries[*position as usize - 1];
        assert_eq!(entry["position"], *position);
        assert_eq!(&entry["event"], event);
        assert_eq!(entry["repeats"], Value::Null);
    }
    // Every emitter continues until all its events are acknowledged.
    assert_eq!(entries.len(), acknowledged.len(), "each emitted event is recorded once, and no other");
    assert_eq!(entries.len() as u64, head);
    let stream = cluster.operator().await.get_stream(STREAM).await.expect("the stream");
    let state = &stream.cached_info().state;
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (head, 1, head));

    let projected = digests(&servers.postgres_url(), "default").await;
    let database = servers.fresh_database("rebuilt").await;
    let projections = format!("--projections-url={database}");
    let fresh =
        Service::start(PROGRAM, &servers, &[journal.as_slice(), &[projections.as_str()]].concat()).await;
    fresh.client().wait_for_projections(head).await;
    assert_eq!(digests(&database, "default").await, projected);
    assert_eq!(projected["gaps"].0, 0, "there are no gaps");
}
