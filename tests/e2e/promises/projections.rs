//! Projections are a function of the log: a rebuild gives the same rows.

use ledger_tests::{STREAM, Servers, Service, digests, jetstream};

use crate::{PROGRAM, varied};

/// Number of events of the demo history.
const DEMO: usize = 2_000;

#[tokio::test]
async fn projections_are_a_function_of_the_log() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let history = varied::history(DEMO);
    let (first, rest) = history.split_at(300);
    // Republished entries shift later positions, and the demo refers to its own positions: republish after the demo.
    let (second, third) = rest.split_at(DEMO - 300);
    client.record_all(first).await;
    service.kill().await;
    service.restart().await;
    client.record_all(second).await;
    let republished = republish(&servers, &[7, 2, 7]).await;
    client.record_all(third).await;
    let projected = digests(&servers.postgres_url(), "default").await;

    let database = servers.fresh_database("rebuilt").await;
    let rebuilt = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    let (_, head) = client.positions().await;
    rebuilt.client().wait_for_projections(head).await;

    assert_eq!(digests(&database, "default").await, projected);
    assert_eq!(projected["events"].0 as usize, history.len() + republished);
    assert!(
        projected
            .keys()
            .all(|table| ["gaps", "foreign_entries", "clock_skews"].contains(&&**table)
                || projected[table].0 > 0),
        "{projected:?}"
    );
    assert_eq!(rebuilt.client().text("/v1/position").await, client.text("/v1/position").await);
}

/// Publishes the entries at these positions again, bypassing the service and without their identities.
async fn republish(servers: &Servers, positions: &[u64]) -> usize {
    let jetstream = jetstream(servers).await;
    let stream = jetstream.get_stream(STREAM).await.expect("the stream");
    for position in positions {
        let entry = stream.get_raw_message(*position).await.expect("an entry");
        let stored = jetstream.publish(entry.subject, entry.payload).await.expect("published");
        stored.await.expect("stored");
    }
    positions.len()
}
