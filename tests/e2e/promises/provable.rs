//! Immutable and provable: nothing can be deleted, and the root covers exactly the stored positions, times and bytes.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::Config;
use chrono::{DateTime, Utc};
use ledger_tests::{Client, STREAM, Servers, Service, jetstream_as_operator};
use ledger_tlog::{Tree, entry_leaf_hash};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{PROGRAM, varied};

#[tokio::test]
async fn immutable_and_provable() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&varied::history(700)).await;
    let operator = jetstream_as_operator(&servers).await;
    let stream = operator.get_stream(STREAM).await.expect("the stream");
    let before = client.text("/v1/position").await;

    let deleted = stream.delete_message(3).await;
    let purged = stream.purge().await;
    let dropping = Config { deny_delete: false, deny_purge: false, ..stream.cached_info().config.clone() };
    let loosened = operator.update_stream(dropping).await;

    deleted.expect_err("an entry cannot be deleted");
    purged.expect_err("entries cannot be purged");
    loosened.expect_err("the denials cannot be revoked");
    assert_eq!(client.text("/v1/position").await, before);

    let entries = entries(&client).await;
    let (mut tree, mut leaves) = (Tree::new(), Vec::new());
    for (position, entry) in (1..).zip(&entries) {
        let micros = entry.recorded_at.timestamp_micros();
        let leaf = entry_leaf_hash(position, micros, entry.bytes.as_bytes());
        let head = format!("release-ledger entry v1\n{position}\n{micros}\n");
        let own_leaf = sha256(&[&[0], head.as_bytes(), entry.bytes.as_bytes()]);
        let stored = stream.get_raw_message(position).await.expect("an entry of the stream");
        assert_eq!(stored.payload, entry.bytes.as_bytes(), "the API returns the stored bytes");
        assert_eq!(entry.leaf_hash, leaf.to_string());
        assert_eq!(entry.leaf_hash, hexadecimal(&own_leaf));
        tree.append(leaf);
        leaves.push(own_leaf);
    }
    let body = client.get("/v1/position").await.ok();
    assert_eq!(body["position"], entries.len());
    assert_eq!(body["root"], tree.root().to_string());
    assert_eq!(body["root"], hexadecimal(&merkle_tree_hash(&leaves)));
}

/// An entry with the exact bytes of its event.
struct Entry {
    recorded_at: DateTime<Utc>,
    leaf_hash: String,
    bytes: String,
}

async fn entries(client: &Client) -> Vec<Entry> {
    type Members<'a> = BTreeMap<&'a str, &'a RawValue>;
    let mut entries = Vec::new();
    loop {
        let text = client.text(&format!("/v1/events?limit=300&after={}", entries.len())).await;
        let page: Members<'_> = serde_json::from_str(&text).expect("a page");
        let events: Vec<Members<'_>> = serde_json::from_str(page["events"].get()).expect("entries");
        entries.extend(events.iter().map(|entry| Entry {
            recorded_at: entry["recorded_at"].get().trim_matches('"').parse().expect("a time"),
            leaf_hash: entry["leaf_hash"].get().trim_matches('"').to_owned(),
            bytes: entry["event"].get().to_owned(),
        }));
        if !page.contains_key("next") {
            return entries;
        }
    }
}

type Sha = [u8; 32];

fn sha256(parts: &[&[u8]]) -> Sha {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn hexadecimal(hash: &Sha) -> String {
    hex::encode(hash)
}

/// Implements RFC 6962, section 2.1, literally and independently of the ledger.
fn merkle_tree_hash(leaves: &[Sha]) -> Sha {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            // The largest power of two that is smaller than the number of leaves.
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &merkle_tree_hash(left), &merkle_tree_hash(right)])
        }
    }
}
