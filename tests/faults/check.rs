//! What must hold once all is well again: of the stream, read raw; of the projections; of the tree; of projections that
//! are folded anew.

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

use crate::author::ENVIRONMENTS;
use crate::fold::{Fold, told};
use crate::load::Load;
use crate::merkle::{hexadecimal, leaf, root};
use crate::model::{Model, Outcome};
use crate::plan::Stint;
use crate::questions::state;
use crate::report::Report;
use crate::stack::Stack;
use ledger_tests::Random;

const SOURCE: &str = "urn:release-ledger:test";
/// What the ledger itself says has one of these sources.
const OWN_SOURCES: [&str; 2] = ["urn:release-ledger:api", "urn:release-ledger:rollback-controller"];
/// How long the projections may take to come to the end, and the ledger to come to rest.
const REST_WITHIN: Duration = Duration::from_secs(90);
/// Past positions whose state is compared with the fold, for each environment.
const PAST: u64 = 4;

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

/// Finds whatever does not hold.
pub(crate) async fn check(
    stint: &Stint,
    stack: &Stack,
    load: &Load,
    report: &Report,
    random: &mut Random,
    name: &str,
) -> Vec<String> {
    let mut wrong = load.model().violations().to_vec();
    let outcome = async {
        let head = rest(stack).await?;
        let entries = entries(&stack.jetstream().await, head).await?;
        stream(&load.model(), &entries, &mut wrong);
        let repeats = history(stack, &entries, &mut wrong).await?;
        once(&entries, &repeats, stint.memory, &mut wrong);
        report.most("entries that repeat others, in one stint", repeats.len() as u64);
        one_rollback_at_a_time(&entries, &repeats, &mut wrong);
        lanes(stack, &entries, &repeats, random, &mut wrong).await;
        tree(stack, &entries, &mut wrong).await;
        rebuilt(stack, head, name, &mut wrong).await?;
        report.count("entries, each checked", entries.len() as u64);
        report.count("rebuilds compared", 1);
        Ok::<(), String>(())
    };
    if let Err(why) = outcome.await {
        wrong.push(why);
    }
    wrong
}

/// Waits until both services have all of the stream in their projections, and nothing new comes; answers where
/// the stream ends.
async fn rest(stack: &Stack) -> Result<u64, String> {
    let mut seen = Vec::new();
    let resting = async {
        let mut since = Instant::now();
        loop {
            let mut now = Vec::new();
            for client in stack.clients() {
                let asked =
                    client.request(reqwest::Method::GET, "/v1/position").timeout(Duration::from_secs(5));
                let answer = Client::try_send(asked).await.ok();
                now.push(
                    answer.map(|answer| (answer.body["position"].as_u64(), answer.body["head"].as_u64())),
                );
            }
            if now != seen {
                seen = now;
                since = Instant::now();
            }
            let head = seen.first().and_then(|first| first.as_ref()).and_then(|(_, head)| *head);
            let all = seen.iter().all(|one| *one == Some((head, head)));
            // The controller may have something to say of what was folded last.
            if let Some(head) = head.filter(|_| all && since.elapsed() > Duration::from_secs(1)) {
                return head;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    match timeout(REST_WITHIN, resting).await {
        Ok(head) => Ok(head),
        Err(_) => {
            Err(format!("projections and streams, as the services say, do not come together: {seen:?}"))
        }
    }
}

/// All entries, as the stream has them.
async fn entries(jetstream: &Context, head: u64) -> Result<Vec<Entry>, String> {
    let read = async {
        let mut stream = jetstream.get_stream(STREAM).await.map_err(|error| error.to_string())?;
        let state = stream.info().await.map_err(|error| error.to_string())?.state.clone();
        if (state.last_sequence, state.messages) != (head, head) {
            return Err(format!("the services end at {head}, and the stream is {state:?}"));
        }
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: 1 };
        let config = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        // Three servers that were just healed may still elect who makes consumers.
        let mut messages = loop {
            let made = async { stream.create_consumer(config.clone()).await.ok()?.messages().await.ok() };
            match made.await {
                Some(messages) => break messages,
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let mut entries = Vec::with_capacity(head as usize);
        while (entries.len() as u64) < head {
            let message = messages.next().await.ok_or("the stream's messages end")?;
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
    timeout(REST_WITHIN, read).await.unwrap_or_else(|_| Err("the stream cannot be read".into()))
}

/// Every acknowledged event is at its position, and no entry is there that nobody sent.
fn stream(model: &Model, entries: &[Entry], wrong: &mut Vec<String>) {
    let at = |position: u64| position.checked_sub(1).and_then(|index| entries.get(index as usize));
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for (entry, position) in entries.iter().zip(1..) {
        let (source, id) = (entry.text("source"), entry.text("id"));
        if OWN_SOURCES.contains(&source) {
            let kind = entry.text("type");
            if !kind.contains(".rollback.requested.") && !kind.contains(".rollback.declined.") {
                wrong.push(format!("position {position}: the ledger itself said {kind}"));
            }
            continue;
        }
        let sent = model.sent().get(id).filter(|_| source == SOURCE);
        if !sent.is_some_and(|sent| sent.contents.iter().any(|content| content.as_bytes() == entry.bytes)) {
            wrong.push(format!("position {position}: nobody sent this: {}", text(&entry.bytes)));
        }
        places.entry(id).or_default().push(position);
    }
    for (id, sent) in model.sent() {
        let places = places.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        for said in &sent.said {
            let content = &sent.contents[said.content];
            match &said.outcome {
                Outcome::Recorded(position) | Outcome::Duplicate(position) => {
                    let found = at(*position).map(|entry| &entry.bytes);
                    if found.is_none_or(|found| found != content.as_bytes()) {
                        let found = found.map_or_else(|| "nothing".to_owned(), text);
                        wrong.push(format!("{id}: answered {:?}; there is {found}", said.outcome));
                    }
                }
                Outcome::Conflict => {
                    let has_other =
                        |position: &u64| at(*position).is_some_and(|entry| entry.bytes != content);
                    if !places.iter().any(has_other) {
                        wrong.push(format!("{id}: answered as a conflict, and no other content is there"));
                    }
                }
                Outcome::Rejected(why) if why == "event-from-the-future" && !places.is_empty() => {
                    wrong.push(format!("{id}: refused for good, and at {places:?}"));
                }
                Outcome::Rejected(_) | Outcome::Later(_) => {}
            }
        }
    }
    for (id, next) in &model.preceding {
        let first = places.get(id.as_str()).and_then(|places| places.first());
        if first.is_some_and(|first| first > next) {
            wrong.push(format!("{id} is at {first:?}, and what came after it in its request at {next}"));
        }
    }
    for (rollback, positions) in &model.rollbacks {
        for position in positions {
            let found = at(*position).map(|entry| (entry.text("type"), &entry.event["data"]["rollback_id"]));
            if found != Some(("io.releaseledger.rollback.requested.v1", &Value::from(rollback.as_str()))) {
                wrong.push(format!("{rollback}: recorded at {position}, and there is {found:?}"));
            }
        }
    }
}

/// The history in the projections is the stream, byte for byte; answers which positions repeat which.
async fn history(
    stack: &Stack,
    entries: &[Entry],
    wrong: &mut Vec<String>,
) -> Result<BTreeMap<u64, u64>, String> {
    let mut connection = projections_connection(stack.postgres_url(), "default").await;
    let query = "SELECT position, repeats, bytes, leaf_hash FROM events ORDER BY position";
    type Row = (i64, Option<i64>, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> =
        sqlx::query_as(query).fetch_all(&mut connection).await.map_err(|error| error.to_string())?;
    if rows.len() != entries.len() {
        wrong.push(format!("the projections have {} entries, and the stream {}", rows.len(), entries.len()));
    }
    let mut repeats = BTreeMap::new();
    for ((position, repeated, bytes, hash), (entry, place)) in rows.iter().zip(entries.iter().zip(1..)) {
        if (*position, bytes.as_slice(), hash.as_slice()) != (place, &*entry.bytes, &leaf(&entry.bytes)) {
            wrong.push(format!("row {position} of the projections is not entry {place} of the stream"));
        }
        repeated.and_then(|repeated| repeats.insert(position.cast_unsigned(), repeated.cast_unsigned()));
    }
    Ok(repeats)
}

/// An identity has one effect: of two entries the projections mark the second, and the second came only when the
/// server itself had forgotten the first.
fn once(entries: &[Entry], repeats: &BTreeMap<u64, u64>, memory: u64, wrong: &mut Vec<String>) {
    let mut first: HashMap<(&str, &str), u64> = HashMap::new();
    for (entry, position) in entries.iter().zip(1..) {
        let identity = (entry.text("source"), entry.text("id"));
        let before = *first.entry(identity).or_insert(position);
        let marked = repeats.get(&position).copied();
        if marked != (before != position).then_some(before) {
            wrong.push(format!("position {position} repeats {before}, and the projections say {marked:?}"));
        }
        if before != position {
            let after = entry.recorded_at - entries[before as usize - 1].recorded_at;
            if after.num_milliseconds() < memory as i64 * 1_000 {
                wrong.push(format!("{identity:?} is at {before} and, {after} later, at {position}"));
            }
        }
    }
}

/// Of the rollbacks of an environment, one is under way at most.
fn one_rollback_at_a_time(entries: &[Entry], repeats: &BTreeMap<u64, u64>, wrong: &mut Vec<String>) {
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
                    wrong.push(format!("position {position}: {id} is requested while {other} is under way"));
                }
            }
            "io.releaseledger.rollback.cancelled.v1" if under_way.remove(environment) != Some(id) => {
                wrong.push(format!("position {position}: {id} is cancelled and was not under way"));
            }
            "io.releaseledger.rollback.started.v1" if under_way.get(environment) != Some(&id) => {
                wrong.push(format!("position {position}: {id} is started and was not under way"));
            }
            _ => {}
        }
    }
}

/// What both services say of lanes, now and in the past, is what the stream's events come to.
async fn lanes(
    stack: &Stack,
    entries: &[Entry],
    repeats: &BTreeMap<u64, u64>,
    random: &mut Random,
    wrong: &mut Vec<String>,
) {
    let head = entries.len() as u64;
    let mut points: Vec<u64> = (0..PAST).map(|_| random.within(1, head.max(1))).collect();
    points.push(head);
    points.sort_unstable();
    let mut fold = Fold::default();
    let mut folded = 0;
    for point in points.into_iter().filter(|point| *point <= head) {
        for position in folded + 1..=point {
            if !repeats.contains_key(&position) {
                fold.apply(position, &entries[position as usize - 1].event);
            }
        }
        folded = point;
        for environment in ENVIRONMENTS {
            for client in stack.clients() {
                let answer = client.get(&state(environment, point)).await;
                let wanted = fold.running(environment);
                // An environment that no event has named yet is not known.
                let said = if answer.status == 200 { told(&answer.body) } else { BTreeMap::new() };
                if said != wanted {
                    wrong.push(format!(
                        "{environment} at {point}: by the stream {wanted:?}, and told: {}",
                        answer.text
                    ));
                }
            }
        }
    }
}

/// The root that both services tell is over the stream's bytes.
async fn tree(stack: &Stack, entries: &[Entry], wrong: &mut Vec<String>) {
    let leaves: Vec<_> = entries.iter().map(|entry| leaf(&entry.bytes)).collect();
    let wanted = hexadecimal(&root(&leaves));
    for client in stack.clients() {
        let answer = client.get("/v1/position").await;
        if answer.body["root"] != wanted.as_str() {
            wrong.push(format!("the root over the stream is {wanted}, and told: {}", answer.text));
        }
    }
}

/// Projections that are folded anew are the same.
async fn rebuilt(stack: &Stack, head: u64, name: &str, wrong: &mut Vec<String>) -> Result<(), String> {
    let (rebuilt, url) = stack.rebuild(name).await?;
    let client = rebuilt.client();
    let folded = async {
        loop {
            let path = format!("/v1/position?wait_for={head}&wait_ms=5000");
            let asked = client.request(reqwest::Method::GET, &path).timeout(Duration::from_secs(10));
            if Client::try_send(asked).await.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(REST_WITHIN, folded).await.map_err(|_| "a rebuild does not come to the end".to_owned())?;
    let anew = digests(&url, "default").await;
    let stand = digests(stack.postgres_url(), "default").await;
    for (table, digest) in &anew {
        if stand.get(table) != Some(digest) {
            wrong.push(format!("table {table} is {:?}, and folded anew {digest:?}", stand.get(table)));
        }
    }
    if anew.len() != stand.len() {
        wrong.push(format!("tables: {:?}, and folded anew {:?}", stand.keys(), anew.keys()));
    }
    Ok(())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
