//! Acknowledged events are durable: every event with a response 201 survives kills of the service and the servers.

use ledger_tests::{Servers, Service};
use serde_json::Value;

use crate::PROGRAM;
use crate::emitters::Emitters;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_is_durable() {
    let mut servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
    let client = service.client();
    let emitters = Emitters::start(&client);

    for events in [30, 170] {
        emitters.acknowledged(events).await;
        service.kill().await;
        service.restart().await;
        emitters.acknowledged(events).await;
        servers.kill_nats().await;
        servers.start_nats().await;
        emitters.acknowledged(events).await;
        servers.kill_postgres().await;
        servers.start_postgres().await;
    }
    emitters.acknowledged(30).await;
    let acknowledged = emitters.stop().await;

    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let entries = client.entries().await;
    assert_eq!(entries.len() as u64, head);
    for (position, event) in &acknowledged {
        let entry = &entries[*position as usize - 1];
        assert_eq!(entry["position"], *position);
        assert_eq!(&entry["event"], event);
        assert_eq!(entry["repeats"], Value::Null);
    }
}
