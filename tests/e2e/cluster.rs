//! Three nodes: whatever happens to one of them, nothing that was acknowledged is lost, and the ledger is
//! soon open again.

use std::time::{Duration, Instant};

use ledger_devstack::nats::User;
use ledger_tests::{Cluster, Node, STREAM, Servers, Service, digests};
use serde_json::Value;

use crate::PROGRAM;
use crate::emitters::Emitters;

/// A leader that vanishes is missed after four to nine seconds, by what the servers choose; to that comes what
/// waits for an answer of a halted one. Twice as long is a failure.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// More than can be under way: when so many more are acknowledged, some were sent after what happened.
const SOME: usize = 100;

/// Waits until events are taken again, and tells how long that took.
#[expect(clippy::print_stderr, reason = "how long it takes is worth knowing, and not worth a failure")]
async fn back(emitters: &Emitters, what: &str) {
    let began = Instant::now();
    let back = tokio::time::timeout(BACK_WITHIN, emitters.acknowledged(SOME)).await;
    eprintln!("{what}: events are taken again after {:?}", began.elapsed());
    back.unwrap_or_else(|_| panic!("{what}: no events are taken for {BACK_WITHIN:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_nodes_any_one_may_die_or_halt_and_nothing_acknowledged_is_lost() {
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
    emitters.acknowledged(SOME).await;

    for node in Node::ALL {
        let role = if cluster.leader(STREAM).await == node { "the leader" } else { "a follower" };
        cluster.kill(node).await;
        back(&emitters, &format!("{role} is killed")).await;
        cluster.start_again(node).await;
        back(&emitters, "it comes back").await;
        cluster.healthy(STREAM).await;
    }
    let leader = cluster.leader(STREAM).await;
    cluster.kill(leader).await;
    back(&emitters, "the leader is killed").await;
    cluster.start_again(leader).await;
    cluster.healthy(STREAM).await;
    let leader = cluster.leader(STREAM).await;
    cluster.pause(leader).await;
    back(&emitters, "the leader is halted").await;
    emitters.acknowledged(10 * SOME).await;
    cluster.resume(leader);
    back(&emitters, "it goes on").await;
    cluster.healthy(STREAM).await;
    emitters.acknowledged(SOME).await;
    let acknowledged = emitters.stop().await;

    let (_, head) = client.position().await;
    client.projections_at(head).await;
    let entries = client.entries().await;
    for (position, event) in &acknowledged {
        let entry = &entries[*position as usize - 1];
        assert_eq!(entry["position"], *position);
        assert_eq!(&entry["event"], event);
        assert_eq!(entry["repeats"], Value::Null);
    }
    // Every emitter went on until all that it had sent was acknowledged.
    assert_eq!(entries.len(), acknowledged.len(), "nothing is there that nobody sent, and nothing twice");
    assert_eq!(entries.len() as u64, head);
    let stream = cluster.operator().await.get_stream(STREAM).await.expect("the stream");
    let state = &stream.cached_info().state;
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (head, 1, head));

    let folded = digests(&servers.postgres_url(), "default").await;
    let database = servers.fresh_database("anew").await;
    let projections = format!("--projections-url={database}");
    let anew =
        Service::start(PROGRAM, &servers, &[journal.as_slice(), &[projections.as_str()]].concat()).await;
    anew.client().projections_at(head).await;
    assert_eq!(digests(&database, "default").await, folded);
    assert_eq!(folded["gaps"].0, 0, "no gap was told of");
}
