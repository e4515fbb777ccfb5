//! Checks after the faults of a round have ended: the raw stream, the history in the projections, the lanes, the
//! Merkle tree, and a rebuild of the projections.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use ledger_tests::{Client, STREAM, digests, projections_connection};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::generator::ENVIRONMENTS;
use crate::lanes::{Lanes, from_state};
use crate::load::Load;
use crate::merkle::{hexadecimal, leaf, root};
use crate::observations::{Observations, Outcome};
use crate::plan::Stint;
use crate::queries::state;
use crate::report::Report;
use crate::stack::Stack;
use ledger_tests::Random;

/// Source of the events of the load.
const SOURCE: &str = "urn:release-ledger:test";
/// Sources of the events that the ledger itself records.
const LEDGER_SOURCES: [&str; 2] = ["urn:release-ledger:api", "urn:release-ledger:rollback-controller"];
/// Time within which the projections must catch up, and a read of the stream must end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Number of random past positions at which the states are compared.
const PAST_POSITIONS: u64 = 4;

/// An entry of the stream.
struct Entry {
    recorded_at: DateTime<Utc>,
    bytes: Bytes,
    event: Value,
}

impl Entry {
    fn text(&self, name: &str) -> &str {
        self.event[name].as_str().unwrap_or_default()
    }
}

/// Runs all checks and returns the violations. The rebuild uses a new database with this name.
pub(crate) async fn check(
    stint: &Stint,
    stack: &Stack,
    load: &Load,
    report: &Report,
    random: &mut Random,
    database: &str,
) -> Vec<String> {
    let mut violations = load.observations().violations().to_vec();
    let outcome = async {
        let head = settled_head(stack).await?;
        let entries = read_stream(&stack.jetstream().await, head).await?;
        check_stream(&load.observations(), &entries, &mut violations);
        let repeats = check_history(stack, &entries, &mut violations).await?;
        check_repeats(&entries, &repeats, stint.duplicate_window_seconds, &mut violations);
        report.maximum("repeated entries in one stint, maximum", repeats.len() as u64);
        check_single_rollback(&entries, &repeats, &mut violations);
        check_lanes(stack, &entries, &repeats, random, &mut violations).await;
        check_root(stack, &entries, &mut violations).await;
        check_rebuild(stack, head, database, &mut violations).await?;
        report.count("entries checked", entries.len() as u64);
        report.count("rebuilds compared", 1);
        Ok::<(), String>(())
    };
    if let Err(error) = outcome.await {
        violations.push(error);
    }
    violations
}

/// Waits until the projections of both services contain the whole stream and no new entries arrive. Returns the head.
async fn settled_head(stack: &Stack) -> Result<u64, String> {
    let mut seen = Vec::new();
    let settled = async {
        let mut since = Instant::now();
        loop {
            let mut now = Vec::new();
            for client in stack.clients() {
                let request =
                    client.request(reqwest::Method::GET, "/v1/position").timeout(Duration::from_secs(5));
                let response = Client::try_send(request).await.ok();
                now.push(
                    response
                        .map(|response| (response.body["position"].as_u64(), response.body["head"].as_u64())),
                );
            }
            if now != seen {
                seen = now;
                since = Instant::now();
            }
            let head = seen.first().and_then(|first| first.as_ref()).and_then(|(_, head)| *head);
            let all = seen.iter().all(|one| *one == Some((head, head)));
            // The rollback controller may still respond to the last entries.
            if let Some(head) = head.filter(|_| all && since.elapsed() > Duration::from_secs(1)) {
                return head;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    match timeout(SETTLE_TIMEOUT, settled).await {
        Ok(head) => Ok(head),
        Err(_) => Err(format!(
            "the projections did not reach the head within {SETTLE_TIMEOUT:?}; (position, head): {seen:?}"
        )),
    }
}

/// Reads all entries from the stream.
async fn read_stream(jetstream: &Context, head: u64) -> Result<Vec<Entry>, String> {
    let read = async {
        let mut stream = jetstream.get_stream(STREAM).await.map_err(|error| error.to_string())?;
        let state = stream.info().await.map_err(|error| error.to_string())?.state.clone();
        if (state.last_sequence, state.messages) != (head, head) {
            return Err(format!("the services report the head {head}, but the stream has {state:?}"));
        }
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: 1 };
        let config = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        // A cluster that has just recovered may still elect the leader that creates consumers.
        let mut messages = loop {
            let created = async { stream.create_consumer(config.clone()).await.ok()?.messages().await.ok() };
            match created.await {
                Some(messages) => break messages,
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let mut entries = Vec::with_capacity(head as usize);
        while (entries.len() as u64) < head {
            let message = messages.next().await.ok_or("the consumer's messages ended before the head")?;
            let message = message.map_err(|error| error.to_string())?;
            let info = message.info().map_err(|error| error.to_string())?;
            if info.stream_sequence != entries.len() as u64 + 1 {
                return Err(format!("position {} follows {}", info.stream_sequence, entries.len()));
            }
            let recorded_at = info.published;
            let event = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
            entries.push(Entry { recorded_at, bytes: message.payload.clone(), event });
        }
        Ok(entries)
    };
    timeout(SETTLE_TIMEOUT, read)
        .await
        .unwrap_or_else(|_| Err(format!("reading the stream timed out after {SETTLE_TIMEOUT:?}")))
}

/// Checks that every acknowledged event is at its position, and that every entry was sent by a client or the ledger.
fn check_stream(observations: &Observations, entries: &[Entry], violations: &mut Vec<String>) {
    let at = |position: u64| position.checked_sub(1).and_then(|index| entries.get(index as usize));
    let mut positions_by_id: HashMap<&str, Vec<u64>> = HashMap::new();
    for (entry, position) in entries.iter().zip(1..) {
        let (source, id) = (entry.text("source"), entry.text("id"));
        if LEDGER_SOURCES.contains(&source) {
            let kind = entry.text("type");
            if !kind.contains(".rollback.requested.") && !kind.contains(".rollback.declined.") {
                violations.push(format!("position {position}: the ledger itself recorded {kind}"));
            }
            continue;
        }
        let sent = observations.sent().get(id).filter(|_| source == SOURCE);
        if !sent.is_some_and(|sent| sent.contents.iter().any(|content| content.as_bytes() == entry.bytes)) {
            violations.push(format!("position {position}: no client sent {}", text(&entry.bytes)));
        }
        positions_by_id.entry(id).or_default().push(position);
    }
    for (id, sent) in observations.sent() {
        let positions = positions_by_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        for found in &sent.final_outcomes {
            let content = &sent.contents[found.content];
            match &found.outcome {
                Outcome::Recorded(position) | Outcome::Duplicate(position) => {
                    let stored = at(*position).map(|entry| &entry.bytes);
                    if stored.is_none_or(|stored| stored != content.as_bytes()) {
                        let stored = stored.map_or_else(|| "nothing".to_owned(), text);
                        violations.push(format!("{id}: outcome {:?}, but stored is {stored}", found.outcome));
                    }
                }
                Outcome::Conflict => {
                    let has_other =
                        |position: &u64| at(*position).is_some_and(|entry| entry.bytes != content);
                    if !positions.iter().any(has_other) {
                        violations
                            .push(format!("{id}: outcome is a conflict, but no other content is stored"));
                    }
                }
                Outcome::Rejected(problem) if problem == "event-from-the-future" && !positions.is_empty() => {
                    violations.push(format!("{id}: rejected, but stored at {positions:?}"));
                }
                Outcome::Rejected(_) | Outcome::Unknown(_) => {}
            }
        }
    }
    for (id, next) in &observations.preceding {
        let first = positions_by_id.get(id.as_str()).and_then(|positions| positions.first());
        if first.is_some_and(|first| first > next) {
            violations.push(format!("{id} is at {first:?}, after the next event of its request at {next}"));
        }
    }
    for (rollback, positions) in &observations.rollbacks {
        for position in positions {
            let found = at(*position).map(|entry| (entry.text("type"), &entry.event["data"]["rollback_id"]));
            if found != Some(("io.releaseledger.rollback.requested.v1", &Value::from(rollback.as_str()))) {
                violations
                    .push(format!("{rollback}: outcome is recorded at {position}, but stored is {found:?}"));
            }
        }
    }
}

/// Checks that the history in the projections equals the stream, byte for byte. Returns the positions that repeat an
/// identity, each with the position of the first.
async fn check_history(
    stack: &Stack,
    entries: &[Entry],
    violations: &mut Vec<String>,
) -> Result<BTreeMap<u64, u64>, String> {
    let mut connection = projections_connection(stack.postgres_url(), "default").await;
    let query = "SELECT position, repeats, bytes, leaf_hash FROM events ORDER BY position";
    type Row = (i64, Option<i64>, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> =
        sqlx::query_as(query).fetch_all(&mut connection).await.map_err(|error| error.to_string())?;
    if rows.len() != entries.len() {
        violations.push(format!(
            "the projections have {} entries, but the stream {}",
            rows.len(),
            entries.len()
        ));
    }
    let mut repeats = BTreeMap::new();
    for ((position, first, bytes, hash), (entry, expected)) in rows.iter().zip(entries.iter().zip(1_i64..)) {
        let leaf = leaf(expected.cast_unsigned(), entry.recorded_at, &entry.bytes);
        if (*position, bytes.as_slice(), hash.as_slice()) != (expected, &*entry.bytes, &leaf) {
            violations.push(format!("row {position} of the projections differs from entry {expected}"));
        }
        first.and_then(|first| repeats.insert(position.cast_unsigned(), first.cast_unsigned()));
    }
    Ok(repeats)
}

/// Checks that an identity has one effect: the projections mark each repetition, and the stream has repetitions only
/// after the server's duplicate window.
fn check_repeats(
    entries: &[Entry],
    repeats: &BTreeMap<u64, u64>,
    duplicate_window_seconds: u64,
    violations: &mut Vec<String>,
) {
    let mut first_positions: HashMap<(&str, &str), u64> = HashMap::new();
    for (entry, position) in entries.iter().zip(1..) {
        let identity = (entry.text("source"), entry.text("id"));
        let first = *first_positions.entry(identity).or_insert(position);
        let marked = repeats.get(&position).copied();
        if marked != (first != position).then_some(first) {
            violations
                .push(format!("position {position} repeats {first}, but the projections say {marked:?}"));
        }
        if first != position {
            let after = entry.recorded_at - entries[first as usize - 1].recorded_at;
            if after.num_milliseconds() < duplicate_window_seconds as i64 * 1_000 {
                violations.push(format!("{identity:?} is at {first} and, only {after} later, at {position}"));
            }
        }
    }
}

/// Checks that at most one rollback per environment is under way at a time.
fn check_single_rollback(entries: &[Entry], repeats: &BTreeMap<u64, u64>, violations: &mut Vec<String>) {
    let mut under_way: HashMap<&str, &str> = HashMap::new();
    for (entry, position) in entries.iter().zip(1..).filter(|(_, position)| !repeats.contains_key(position)) {
        let data = &entry.event["data"];
        let (Some(environment), Some(id)) = (data["environment"].as_str(), data["rollback_id"].as_str())
        else {
            continue;
        };
        match entry.text("type") {
            "io.releaseledger.rollback.requested.v1" => {
                if let Some(other) = under_way.insert(environment, id) {
                    violations
                        .push(format!("position {position}: {id} requested while {other} is under way"));
                }
            }
            "io.releaseledger.rollback.cancelled.v1" if under_way.remove(environment) != Some(id) => {
                violations.push(format!("position {position}: {id} cancelled, but it was not under way"));
            }
            "io.releaseledger.rollback.started.v1" if under_way.get(environment) != Some(&id) => {
                violations.push(format!("position {position}: {id} started, but it was not under way"));
            }
            _ => {}
        }
    }
}

/// Checks the state of each environment, now and at random past positions, on both services, against the stream.
async fn check_lanes(
    stack: &Stack,
    entries: &[Entry],
    repeats: &BTreeMap<u64, u64>,
    random: &mut Random,
    violations: &mut Vec<String>,
) {
    let head = entries.len() as u64;
    let mut points: Vec<u64> = (0..PAST_POSITIONS).map(|_| random.within(1, head.max(1))).collect();
    points.push(head);
    points.sort_unstable();
    let mut lanes = Lanes::default();
    let mut applied = 0;
    for point in points.into_iter().filter(|point| *point <= head) {
        for position in applied + 1..=point {
            if !repeats.contains_key(&position) {
                lanes.apply(position, &entries[position as usize - 1].event);
            }
        }
        applied = point;
        for environment in ENVIRONMENTS {
            for client in stack.clients() {
                let response = client.get(&state(environment, point)).await;
                let expected = lanes.running(environment);
                // The service responds 404 for an environment without events.
                let found = if response.status == 200 { from_state(&response.body) } else { BTreeMap::new() };
                if found != expected {
                    violations.push(format!(
                        "{environment} at {point}: the stream gives {expected:?}, but the response is: {}",
                        response.text
                    ));
                }
            }
        }
    }
}

/// Checks that the root on both services is that of the stream's positions, times and bytes.
async fn check_root(stack: &Stack, entries: &[Entry], violations: &mut Vec<String>) {
    let leaves =
        entries.iter().zip(1..).map(|(entry, position)| leaf(position, entry.recorded_at, &entry.bytes));
    let leaves: Vec<_> = leaves.collect();
    let expected = hexadecimal(&root(&leaves));
    for client in stack.clients() {
        let response = client.get("/v1/position").await;
        if response.body["root"] != expected.as_str() {
            violations.push(format!(
                "the root of the stream is {expected}, but the response is: {}",
                response.text
            ));
        }
    }
}

/// Checks that a rebuild gives the same projections.
async fn check_rebuild(
    stack: &Stack,
    head: u64,
    database: &str,
    violations: &mut Vec<String>,
) -> Result<(), String> {
    let (service, url) = stack.rebuild(database).await?;
    let client = service.client();
    let caught_up = async {
        loop {
            let path = format!("/v1/position?wait_for={head}&wait_ms=5000");
            let request = client.request(reqwest::Method::GET, &path).timeout(Duration::from_secs(10));
            if Client::try_send(request).await.is_ok_and(|response| response.status == 200) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SETTLE_TIMEOUT, caught_up)
        .await
        .map_err(|_| format!("the rebuild did not reach the head within {SETTLE_TIMEOUT:?}"))?;
    let rebuilt = digests(&url, "default").await;
    let live = digests(stack.postgres_url(), "default").await;
    for (table, digest) in &rebuilt {
        if live.get(table) != Some(digest) {
            violations.push(format!("table {table} is {:?}, but rebuilt {digest:?}", live.get(table)));
        }
    }
    if rebuilt.len() != live.len() {
        violations.push(format!("tables: {:?}, but rebuilt {:?}", live.keys(), rebuilt.keys()));
    }
    Ok(())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
