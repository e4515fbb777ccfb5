//! The main use case: recording and projecting events, and querying any point in the past.

use ledger_tests::{Servers, Service, deploy};

use crate::PROGRAM;

#[tokio::test]
async fn a_deploy_is_recorded_and_visible_at_any_later_point() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    client.record_and_wait(&deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2")).await;

    let version = async |at: &str| {
        let state = client.get(&format!("/v1/environments/production/state?at={at}")).await.ok();
        state["lanes"][0]["release"]["version"].as_str().map(str::to_owned)
    };

    assert_eq!(version("latest").await.as_deref(), Some("v2"));
    assert_eq!(version("1").await.as_deref(), Some("v1"));
    assert_eq!(version("-1").await.as_deref(), Some("v1"));
    assert_eq!(version("2026-08-01T10:30:00Z").await.as_deref(), Some("v1"));
    assert_eq!(version("0").await, None);
}
