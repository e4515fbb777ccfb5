//! Archive and restore with a bucket, over HTTP.

use ledger_tests::{Command, Servers, Service, Storage, delete_stream};
use serde_json::{Value, json};

use super::{deploys, has_stream, start_command};
use crate::PROGRAM;

const LOCATION: &str = "s3://ledgers/production/eu";

#[tokio::test]
async fn an_archive_can_be_stored_in_a_bucket() {
    let (servers, storage) = tokio::join!(Servers::start(), Storage::start());
    let variables = storage.variables();
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&deploys(1..=300)).await;
    let root = client.get("/v1/position").await.ok()["root"].clone();
    let archivers = ["40", "60"].map(|entries| {
        let arguments = ["archive", "--json", "--to", LOCATION, "--segment-entries", entries];
        start_command(&servers, &arguments, &variables)
    });
    for archiver in archivers {
        assert_eq!(archiver.json_output().await["position"], 300);
    }
    drop(service);
    delete_stream(&servers).await;
    let objects = storage.objects().await;
    assert!(objects.contains(&"production/eu/checkpoint".to_owned()), "{objects:?}");

    let verify = ["archive", "verify", "--json", "--from", LOCATION];
    let verified = Command::start_with(PROGRAM, &verify, &variables).json_output().await;
    assert_eq!((&verified["position"], &verified["root"]), (&json!(300), &root));

    // A flipped byte is reported; then the segment is repaired.
    let manifest = storage.object("production/eu/segments/00000000000000000001.json").await;
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
    let file = manifest["manifest"]["segment"].as_str().expect("a file");
    let segment = &format!("production/eu/{file}");
    let intact = storage.object(segment).await;
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    storage.put(segment, flipped).await;
    let verify = Command::start_with(PROGRAM, &verify, &variables).outcome().await;
    let restore = ["restore", "--json", "--from", LOCATION];
    let rejected = start_command(&servers, &restore, &variables).outcome().await;
    for outcome in [verify, rejected] {
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        assert!(outcome.stderr.contains(&format!("{file}: the file's sha256 is ")), "{}", outcome.stderr);
    }
    assert!(!has_stream(&servers).await);
    storage.put(segment, intact).await;

    let restored = start_command(&servers, &restore, &variables).json_output().await;

    assert_eq!(restored, json!({"position": 300, "root": root, "gaps": 0, "resumed_after": 0}));
    let database = servers.fresh_database("rebuilt").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().wait_for_projections(300).await;
    assert_eq!(service.client().get("/v1/position").await.ok()["root"], root);
}
