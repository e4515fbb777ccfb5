//! Disasters: what is archived comes back as it was, what is damaged is named, and nothing is half done.

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
    Client, Command, Outcome, STREAM, Servers, deploy, digests, jetstream, jetstream_of_operator, run,
};
use serde_json::Value;

use crate::PROGRAM;

/// Some plain deploys, one a line.
fn deploys(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let event = |n: u64| {
        let (id, service, version) = (format!("d-{n}"), format!("service-{}", n % 7), format!("v{n}"));
        deploy(&id, "2026-08-01T10:00:00Z", "production", &service, &version).to_string()
    };
    numbers.into_iter().map(event).collect()
}

/// A command against a test's servers.
async fn command(servers: &Servers, arguments: &[&str]) -> Outcome {
    started(servers, arguments, &[]).outcome().await
}

/// A command against a test's servers that must end well; what it printed.
async fn told(servers: &Servers, arguments: &[&str]) -> Value {
    started(servers, &[arguments, &["--json"]].concat(), &[]).ended().await
}

fn started(servers: &Servers, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    // Each command has the user that it needs.
    let user = if arguments.first() == Some(&"restore") { User::Restorer } else { User::Reader };
    let (journal, projections) = (servers.nats_url_of(user), servers.postgres_url());
    let (journal, projections) =
        (format!("--journal-url={journal}"), format!("--projections-url={projections}"));
    Command::start_with(PROGRAM, &[arguments, &[&journal, &projections]].concat(), variables)
}

/// What `archive verify` says of an archive that must be whole.
async fn verified(archive: &Path) -> Value {
    run(PROGRAM, &["archive", "verify", "--json", "--from", &archive.to_string_lossy()]).await
}

/// The digests of a tenant's tables.
async fn folded(url: &str) -> BTreeMap<String, (i64, String)> {
    digests(url, "default").await
}

async fn has_stream(servers: &Servers) -> bool {
    jetstream(servers).await.get_stream(STREAM).await.is_ok()
}

/// The stream loses what was at these positions, as a broken disk would have it.
async fn lose(servers: &Servers, positions: &[u64]) {
    let (jetstream, service) = (jetstream_of_operator(servers).await, jetstream(servers).await);
    let mut stream = jetstream.get_stream(STREAM).await.expect("the stream");
    let info = stream.info().await.expect("its state");
    let (config, last) = (info.config.clone(), info.state.last_sequence);
    let mut messages = Vec::new();
    for position in 1..=last {
        messages.push(stream.get_raw_message(position).await.expect("an entry"));
    }
    // A stream that denies deleting denies it for ever: it is made anew.
    jetstream.delete_stream(STREAM).await.expect("deleted");
    let open = Config { deny_delete: false, ..config.clone() };
    let stream = jetstream.create_stream(open).await.expect("made anew");
    for message in messages {
        let stored = service.publish(message.subject, message.payload).await;
        stored.expect("published").await.expect("stored");
    }
    for position in positions {
        stream.delete_message(*position).await.expect("deleted");
    }
    jetstream.update_stream(config).await.expect("as it was");
}

/// Sends an event of the ledger again, which is answered with its place.
async fn sent_again(client: &Client, event: &Value) -> Value {
    client.record(event).await.ok()
}

/// The files of an archive, but the checkpoint.
fn segment_files(archive: &Path, ending: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(archive.join("segments")).into_iter().flatten();
    let mut files: Vec<_> = found.map(|file| file.expect("a file").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}
