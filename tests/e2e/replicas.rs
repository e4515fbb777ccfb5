//! Replication: an operator changes the number of replicas online, without loss and without a restart.

use ledger_devstack::nats::User;
use ledger_tests::{Cluster, STREAM, Servers, Service, digests};

use crate::PROGRAM;
use crate::emitters::Emitters;

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_replicas_can_be_changed_online() {
    let mut cluster = Cluster::start().await;
    let servers = Servers::start().await;
    let url = format!("--journal-url={}", cluster.url(User::Ledger));
    let flags = |replicas: &'static str| [url.as_str(), replicas, "--journal-request-timeout-ms=1000"];
    let service = Service::start(PROGRAM, &servers, &flags("--journal-replicas=1")).await;
    let client = service.client();
    let emitters = Emitters::start(&client);
    emitters.acknowledged(300).await;

    let operator = cluster.operator().await;
    let mut config = operator.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();
    let before = config.num_replicas;
    config.num_replicas = 3;
    operator.update_stream(config).await.expect("the operator may");
    emitters.acknowledged(300).await;
    cluster.wait_until_healthy(STREAM).await;
    let leader = cluster.leader(STREAM).await;
    cluster.kill(leader).await;
    emitters.acknowledged(300).await;
    cluster.restart(leader).await;
    cluster.wait_until_healthy(STREAM).await;
    let acknowledged = emitters.stop().await;

    assert_eq!(before, 1);
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let entries = client.entries().await;
    for (position, event) in &acknowledged {
        assert_eq!(&entries[*position as usize - 1]["event"], event);
    }
    assert_eq!(entries.len(), acknowledged.len());
    let projected = digests(&servers.postgres_url(), "default").await;
    assert_eq!(projected["gaps"].0, 0);

    // The service starts with the old setting and with the new one.
    for (replicas, database) in [("--journal-replicas=1", "one"), ("--journal-replicas=3", "three")] {
        let database = servers.fresh_database(database).await;
        let projections = format!("--projections-url={database}");
        let flags = [&flags(replicas)[..], &[projections.as_str()]].concat();
        let fresh = Service::start(PROGRAM, &servers, &flags).await;
        fresh.client().wait_for_projections(head).await;
        assert_eq!(digests(&database, "default").await, projected);
    }
}
