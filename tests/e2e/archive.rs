//! Disaster recovery: archives restore the ledger unchanged, damage is reported, and nothing is restored partially.

mod bucket;
mod damage;
mod disaster;
mod runbook;
mod unfinished;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_nats::jetstream::stream::Config;
use ledger_devstack::nats::User;
use ledger_tests::{
    Client, Command, Outcome, STREAM, Servers, deploy, digests, jetstream, jetstream_as_operator, run,
};
use serde_json::Value;

use crate::PROGRAM;

/// Returns deploy events, one a line.
fn deploys(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let event = |n: u64| {
        let (id, service, version) = (format!("d-{n}"), format!("service-{}", n % 7), format!("v{n}"));
        deploy(&id, "2026-08-01T10:00:00Z", "production", &service, &version).to_string()
    };
    numbers.into_iter().map(event).collect()
}

/// Runs a command on a test's servers.
async fn run_command(servers: &Servers, arguments: &[&str]) -> Outcome {
    start_command(servers, arguments, &[]).outcome().await
}

/// Runs a command on a test's servers, asserts success, and returns the JSON that it printed.
async fn run_json(servers: &Servers, arguments: &[&str]) -> Value {
    start_command(servers, &[arguments, &["--json"]].concat(), &[]).json_output().await
}

fn start_command(servers: &Servers, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    // Each command connects as the user that it needs.
    let user = if arguments.first() == Some(&"restore") { User::Restorer } else { User::Reader };
    let (journal, projections) = (servers.nats_url_of(user), servers.postgres_url());
    let (journal, projections) =
        (format!("--journal-url={journal}"), format!("--projections-url={projections}"));
    Command::start_with(PROGRAM, &[arguments, &[&journal, &projections]].concat(), variables)
}

/// Verifies an archive, asserts success, and returns the report.
async fn verify_archive(archive: &Path) -> Value {
    run(PROGRAM, &["archive", "verify", "--json", "--from", &archive.to_string_lossy()]).await
}

/// Returns the digests of the default tenant's tables.
async fn table_digests(url: &str) -> BTreeMap<String, (i64, String)> {
    digests(url, "default").await
}

async fn has_stream(servers: &Servers) -> bool {
    jetstream(servers).await.get_stream(STREAM).await.is_ok()
}

/// Deletes the stream's entries at these positions, like a broken disk.
async fn delete_entries(servers: &Servers, positions: &[u64]) {
    let (jetstream, service) = (jetstream_as_operator(servers).await, jetstream(servers).await);
    let mut stream = jetstream.get_stream(STREAM).await.expect("the stream");
    let info = stream.info().await.expect("its state");
    let (config, last) = (info.config.clone(), info.state.last_sequence);
    let mut messages = Vec::new();
    for position in 1..=last {
        messages.push(stream.get_raw_message(position).await.expect("an entry"));
    }
    // `deny_delete` cannot be revoked: recreate the stream without it.
    jetstream.delete_stream(STREAM).await.expect("deleted");
    let open = Config { deny_delete: false, ..config.clone() };
    let stream = jetstream.create_stream(open).await.expect("recreated");
    for message in messages {
        let stored = service.publish(message.subject, message.payload).await;
        stored.expect("published").await.expect("stored");
    }
    for position in positions {
        stream.delete_message(*position).await.expect("deleted");
    }
    jetstream.update_stream(config).await.expect("the configuration is restored");
}

/// Records an event of the ledger again and returns the result.
async fn record_again(client: &Client, event: &Value) -> Value {
    client.record(event).await.ok()
}

/// Returns the segment files of an archive with this ending.
fn segment_files(archive: &Path, ending: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(archive.join("segments")).into_iter().flatten();
    let mut files: Vec<_> = found.map(|file| file.expect("a file").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}
