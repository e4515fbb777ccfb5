//! A NATS server that comes back within seconds from an older copy of its files while a service runs, and that has
//! grown past what the service has read.

use std::time::Duration;

use ledger_tests::{
    STREAM, Servers, Service, copy_folder, deploy, digests, jetstream, jetstream_as_operator,
};
use serde_json::Value;

use crate::PROGRAM;

/// Reason why the projector stops: it had applied ten entries.
const REASSIGNED: &str = "the journal is not the one that the projections were built from: \
                          the stream has a different entry at position 10";

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v-{id}"))
}

/// Records events until the service accepts each: after a restart of NATS it has to connect again.
async fn record_all(service: &Service, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        while service.client().record(&web(&id.to_string())).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_older_copy_of_the_stream_that_has_grown_is_noticed_by_a_running_service() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let (store, copy) = (servers.folder().join("nats/jetstream"), servers.folder().join("copy"));
    record_all(&service, 1..=5).await;
    servers.kill_nats().await;
    copy_folder(&store, &copy);
    servers.start_nats().await;
    record_all(&service, 6..=10).await;
    client.wait_for_projections(10).await;
    let before = digests(&servers.postgres_url(), "default").await;

    servers.kill_nats().await;
    std::fs::remove_dir_all(&store).expect("removed");
    copy_folder(&copy, &store);
    servers.start_nats().await;
    let publisher = jetstream(&servers).await;
    for id in 101..=110 {
        let subject = "ledger.default.production.web.deploy.succeeded";
        let published = publisher.publish(subject, web(&id.to_string()).to_string().into()).await;
        published.expect("published").await.expect("stored");
    }
    let refused = client.record(&web("11")).await;
    let alarm = client.wait_until_not_ready(REASSIGNED).await;
    let diverged = client.record(&web("12")).await;

    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(alarm.contains("default: projector: "), "{alarm}");
    assert_eq!((diverged.status, diverged.problem()), (503, "journal-diverged"), "{}", diverged.text);
    assert_eq!(digests(&servers.postgres_url(), "default").await, before);
    let stream = jetstream_as_operator(&servers).await.get_stream(STREAM).await.expect("the stream");
    assert_eq!(stream.cached_info().state.last_sequence, 15, "nothing is appended to the copy");
}
