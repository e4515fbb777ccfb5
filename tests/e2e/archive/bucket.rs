//! The same in a bucket, over HTTP.

use ledger_tests::{Command, Servers, Service, Storage, delete_stream};
use serde_json::{Value, json};

use super::{deploys, has_stream, started};
use crate::PROGRAM;

const PLACE: &str = "s3://ledgers/production/eu";

#[tokio::test]
async fn an_archive_can_be_in_a_bucket() {
    let (servers, storage) = tokio::join!(Servers::start(), Storage::start());
    let variables = storage.variables();
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded_all(&deploys(1..=300)).await;
    let root = client.get("/v1/position").await.ok()["root"].clone();
    let at_once = ["40", "60"].map(|entries| {
        let arguments = ["archive", "--json", "--to", PLACE, "--segment-entries", entries];
        started(&servers, &arguments, &variables)
    });
    for archiver in at_once {
        assert_eq!(archiver.ended().await["position"], 300);
    }
    drop(service);
    delete_stream(&servers).await;
    let objects = storage.objects().await;
    assert!(objects.contains(&"production/eu/checkpoint".to_owned()), "{objects:?}");

    let verify = ["archive", "verify", "--json", "--from", PLACE];
    let verified = Command::start_with(PROGRAM, &verify, &variables).ended().await;
    assert_eq!((&verified["position"], &verified["root"]), (&json!(300), &root));

    // One flipped byte is named, and put back.
    let manifest = storage.object("production/eu/segments/00000000000000000001.json").await;
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
    let file = manifest["manifest"]["segment"].as_str().expect("a file");
    let segment = &format!("production/eu/{file}");
    let whole = storage.object(segment).await;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    storage.put(segment, flipped).await;
    let verify = Command::start_with(PROGRAM, &verify, &variables).outcome().await;
    let restore = ["restore", "--json", "--from", PLACE];
    let refused = started(&servers, &restore, &variables).outcome().await;
    for outcome in [verify, refused] {
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        assert!(outcome.stderr.contains(&format!("{file}: the file's sha256 is ")), "{}", outcome.stderr);
    }
    assert!(!has_stream(&servers).await);
    storage.put(segment, whole).await;

    let restored = started(&servers, &restore, &variables).ended().await;

    assert_eq!(restored, json!({"position": 300, "root": root, "gaps": 0, "resumed_after": 0}));
    let database = servers.fresh_database("anew").await;
    let service = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    service.client().projections_at(300).await;
    assert_eq!(service.client().get("/v1/position").await.ok()["root"], root);
}
