//! Inputs of 1 MiB: no parser takes long, or much more memory than its input.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_access::ApiToken;
use ledger_adapters::cdevents;
use ledger_adapters::hooks::{self, Request, Webhook};
use ledger_adapters::import::{self, csv::Mapping, csv::Member};
use ledger_codec::cloudevents::{Envelope, StoredEntry, check_secrets, decode_header, parse_policy};
use ledger_codec::secrets;
use ledger_domain::{Artifact, ImageReference, LongText, PointRef, Source, parse_time};
use serde_json::Value;

use crate::samples;

const SIZE: usize = 1024 * 1024;

/// Maximum time for one input, on a busy machine and without optimisation.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Maximum memory for all inputs. A JSON value takes up to 32 bytes for a list's item of two.
const MAX_MEMORY_KIB: u64 = 256 * 1024;

/// Returns texts of 1 MiB that repeat a part between a start and an end.
fn repeated() -> Vec<String> {
    let repeated = |start: &str, part: &str, end: &str| {
        format!("{start}{}{end}", part.repeat((SIZE - start.len() - end.len()) / part.len()))
    };
    let event = samples::events()[0].to_string();
    let unclosed = event.strip_suffix('}').expect("an event is an object");
    vec![
        repeated("", "[", ""),
        repeated("", "{\"a\":", ""),
        repeated("[", "0,", "0]"),
        repeated("[", "{},", "{}]"),
        repeated("[", "{\"id\":1,\"sha\":\"a\",\"url\":\"/deployments/1\"},", "{}]"),
        repeated("", "{}\n", ""),
        repeated("\"", "\\u0000", "\""),
        repeated(&format!("{unclosed},\"a\":\""), "a", "\"}"),
        repeated(&format!("{unclosed},\"a\":["), "[],", "[]]}"),
        repeated(&format!("{unclosed},\"data\":{{\"a\":\""), "eyJ.", "\"}}"),
        repeated("[", &format!("{event},"), &format!("{event}]")),
        repeated("when,result,app,env\n", "2026-08-01T12:00:00Z,succeeded,web,production\n", ""),
        repeated("", "when,", "\n"),
        repeated("when,result\n\"", "\"\"", "\""),
        repeated("", "\r\n", ""),
        repeated("pkg:npm/", "%40a/", "@1"),
        repeated("pkg:npm/a@1?", "checksum=a&", ""),
        repeated("", "a@", ""),
        repeated("", "/:", ""),
        repeated("\"", "\\%41", "\""),
        repeated("", "-----BEGIN PRIVATE KEY-----", ""),
        repeated("", "ghp_", ""),
        repeated("", "e\u{301}", ""),
        repeated("", "9", ""),
    ]
}

/// Returns bodies of webhooks and CDEvents whose texts, lists or members are repeated to 1 MiB.
fn grown(sample: &Value) -> [String; 2] {
    let text = sample.to_string();
    let long = text.replacen("\"2026", &format!("\"{}2026", "a".repeat(SIZE)), 1);
    let inner = text.strip_prefix('{').expect("a sample is an object");
    let members: String = (0..SIZE / 12).map(|number| format!("\"{number:06}\":0,")).collect();
    [long, format!("{{{members}{inner}")]
}

type Parser = (&'static str, fn(&str));

const PARSERS: &[Parser] = &[
    ("events", |text| drop(Envelope::parse(text.as_bytes()))),
    ("stored entries", |text| drop(StoredEntry::parse(Bytes::copy_from_slice(text.as_bytes())))),
    ("batches", |text| {
        if let Ok(parts) = Envelope::split_batch(&Bytes::copy_from_slice(text.as_bytes()), 1000) {
            parts.for_each(|part| drop(Envelope::parse(&part)));
        }
    }),
    ("policies", |text| drop(parse_policy(text.as_bytes()))),
    ("secrets", |text| drop((secrets::find(text), check_secrets(text.as_bytes())))),
    ("attributes", |text| drop(decode_header(text))),
    ("CDEvents", |text| {
        let settings = cdevents::Settings::default();
        drop(cdevents::read(text.as_bytes(), &settings));
        drop(cdevents::read_structured(text.as_bytes(), &settings));
        drop(cdevents::read_batch(text.as_bytes(), 1000, &settings));
    }),
    ("webhooks", |text| hook("github", text)),
    ("mappings", |text| hook("generic", text)),
    ("exports", |text| {
        let (github, gitlab) = (webhook("github"), webhook("gitlab"));
        drop(import::github::read_as_webhook(text, &github, now()));
        drop(import::gitlab::read_as_webhook(text, None, &gitlab, now()));
        let settings = cdevents::Settings::default();
        drop(import::cdviz::read(text, |message| cdevents::read(message, &settings)));
    }),
    ("tables", |text| {
        let mut mapping = Mapping::new(Source::parse("urn:example:table").expect("a source"));
        for (member, column) in
            [(Member::Time, "when"), (Member::Outcome, "result"), (Member::Service, "app")]
        {
            mapping.columns.insert(member, column.to_owned());
        }
        drop(import::csv::read(text, &mapping, now()));
    }),
    ("texts", |text| {
        let _ = ImageReference::split(text);
        drop((
            Artifact::parse(text),
            Artifact::stored(text),
            PointRef::parse(text, now()),
            LongText::parse(text),
        ));
        let _ = (parse_time(text), ApiToken::parse(text));
    }),
];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_785_700_000, 0).expect("a time")
}

fn webhook(kind: &str) -> Webhook {
    let settings = serde_json::from_value(samples::hook(kind).settings[0].clone()).expect("settings");
    Webhook::offline(settings).expect("settings")
}

fn hook(kind: &str, text: &str) {
    let webhook = webhook(kind);
    for event in ["deployment_status", "workflow_run"] {
        let request = Request::new([("X-GitHub-Event", event)], text.as_bytes());
        let translation = hooks::translate(&webhook, &request, now());
        drop(hooks::describe(&translation));
    }
}

/// Returns a number of the process's memory in KiB; 0 where the system does not state it.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Parses an input within the time.
fn timed(name: &str, input: &str, parse: impl Fn(&str)) {
    let start = Instant::now();
    parse(input);
    let took = start.elapsed();
    assert!(took < MAX_TIME, "{name}: {took:?} for {input:.100}");
}

#[test]
fn an_input_of_one_mebibyte_takes_little_time_and_memory() {
    let before = memory("VmRSS");
    for input in repeated() {
        for (name, parse) in PARSERS {
            timed(name, &input, parse);
        }
    }
    for kind in ["github", "gitlab", "argocd", "flux", "alertmanager", "generic"] {
        for input in grown(&samples::hook(kind).bodies[0]) {
            timed(kind, &input, |text| hook(kind, text));
        }
    }
    for input in grown(&samples::cdevents()[0]) {
        timed("CDEvents", &input, |text| {
            drop(cdevents::read(text.as_bytes(), &cdevents::Settings::default()));
        });
    }
    let used = memory("VmHWM").saturating_sub(before);
    assert!(used < MAX_MEMORY_KIB, "{used} KiB");
}
