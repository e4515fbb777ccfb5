//! Projections are the log, folded: folded anew, they are the same row for row.

use ledger_tests::{STREAM, Servers, Service, digests, jetstream};

use crate::{PROGRAM, varied};

/// Events of the demo history.
const DEMO: usize = 2_000;

#[tokio::test]
async fn projections_are_the_log_folded() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let history = varied::history(DEMO);
    let (first, rest) = history.split_at(300);
    // What repeats behind its back moves positions, and the demo knows its own.
    let (second, third) = rest.split_at(DEMO - 300);
    client.recorded_all(first).await;
    service.kill().await;
    service.start_again().await;
    client.recorded_all(second).await;
    let repeated = repeat_behind_its_back(&servers, &[7, 2, 7]).await;
    client.recorded_all(third).await;
    let folded = digests(&servers.postgres_url(), "default").await;

    let database = servers.fresh_database("anew").await;
    let anew = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    let (_, head) = client.position().await;
    anew.client().projections_at(head).await;

    assert_eq!(digests(&database, "default").await, folded);
    assert_eq!(folded["events"].0 as usize, history.len() + repeated);
    assert!(
        folded.keys().all(|table| ["gaps", "clock_skews"].contains(&&**table) || folded[table].0 > 0),
        "{folded:?}"
    );
    assert_eq!(anew.client().text("/v1/position").await, client.text("/v1/position").await);
}

/// Publishes the entries at these positions again, past the intake and without their identities.
async fn repeat_behind_its_back(servers: &Servers, positions: &[u64]) -> usize {
    let jetstream = jetstream(servers).await;
    let stream = jetstream.get_stream(STREAM).await.expect("the stream");
    for position in positions {
        let entry = stream.get_raw_message(*position).await.expect("an entry");
        let stored = jetstream.publish(entry.subject, entry.payload).await.expect("published");
        stored.await.expect("stored");
    }
    positions.len()
}
