//! Exported histories.

use std::collections::BTreeSet;
use std::io::Write as _;

use chrono::{DateTime, FixedOffset, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use ledger_adapters::cdevents;
use ledger_adapters::hooks::{HookKind, Webhook, WebhookSettings};
use ledger_adapters::import::csv::{Mapping, Member, TimeFormat};
use ledger_adapters::import::{self, Imported};
use ledger_adapters::translation::Translation;
use ledger_domain::Source;
use serde_json::{Value, json};

use crate::cdevents::check_translation;
use crate::choices::Choices;
use crate::{edit, samples};

fn latest() -> DateTime<Utc> {
    DateTime::from_timestamp(1_785_700_000, 0).expect("a time")
}

/// Returns a file: an edited array, or its items one a line.
fn file(samples: &[Value], choices: &mut Choices<'_>) -> String {
    let is_lines = choices.one_in(2);
    let text = String::from_utf8_lossy(&edit::document(samples, choices)).into_owned();
    match serde_json::from_str(&text) {
        Ok(Value::Array(items)) if is_lines => items.iter().map(|item| format!("{item}\n")).collect(),
        _ => text,
    }
}

/// Checks the properties of every import: events that the ledger accepts, each identity once, rows of the file, and the
/// same events from a file with more rows.
fn check(file: &str, more: &str, read: impl Fn(&str) -> Imported) {
    let imported = read(file);
    assert_eq!(imported, read(file), "two meanings of {file}");
    let events = imported.events.iter().map(|imported| imported.event.clone());
    if !imported.events.is_empty() {
        check_translation(&Ok(Translation::Events(events.collect())));
    }
    let identity =
        |event: &import::ImportedEvent| format!("{} {}", event.event.0["source"], event.event.0["id"]);
    let identities: BTreeSet<_> = imported.events.iter().map(identity).collect();
    assert_eq!(identities.len(), imported.events.len(), "an identity twice: {file}");
    let notes = imported.ignored.iter().chain(&imported.problems).map(|note| note.row);
    for row in imported.events.iter().map(|event| event.row).chain(notes) {
        assert!((1..=file.len() as u64 + 1).contains(&row), "row {row} of {file}");
    }
    let later: Vec<_> =
        read(&format!("{file}\n{more}")).events.into_iter().map(|event| event.event).collect();
    let lost = imported.events.iter().find(|event| !later.contains(&event.event));
    assert!(lost.is_none(), "{lost:?} is another event in a file with more rows: {file}");
}

fn webhook(kind: HookKind) -> Webhook {
    Webhook::offline(WebhookSettings::of_kind(kind)).expect("settings")
}

pub(crate) fn github(choices: &mut Choices<'_>) {
    let file = file(&samples::exports().github, choices);
    let webhook = webhook(HookKind::GitHub);
    check(&file, &samples::exports().github[0].to_string(), |file| {
        import::github::read_as_webhook(file, &webhook, latest())
    });
}

pub(crate) fn gitlab(choices: &mut Choices<'_>) {
    let url = choices.one_in(2).then_some("https://gitlab.example/group/web");
    let file = file(&samples::exports().gitlab, choices);
    let webhook = webhook(HookKind::GitLab);
    check(&file, &samples::exports().gitlab[0].to_string(), |file| {
        import::gitlab::read_as_webhook(file, url, &webhook, latest())
    });
}

pub(crate) fn cdviz(choices: &mut Choices<'_>) {
    let message = edit::json(samples::cdevents(), choices);
    let rows = json!([
        {"id": 1, "timestamp": "2026-08-01T12:00:01Z", "payload": message.to_string()},
        {"id": 2, "payload": message}
    ]);
    let quoted = message.to_string().replace('"', "\"\"");
    let table = format!("id,timestamp,payload\r\n1,x,\"{quoted}\"\r\n2,x,{{}}\n");
    let file = if choices.one_in(3) { edit::text(&[table], choices) } else { file(&[rows], choices) };
    let settings = cdevents::Settings::default();
    let more = if file.trim_start().starts_with(['{', '[']) { "{}" } else { "" };
    check(&file, more, |file| import::cdviz::read(file, |message| cdevents::read(message, &settings)));
}

/// Translates a table by a mapping that fits its columns or does not.
pub(crate) fn csv(choices: &mut Choices<'_>) {
    let mut mapping = Mapping::new(Source::parse("urn:example:table").expect("a source"));
    let columns = ["when", "result", "env", "app", "version", "by", "note", "outcome", ""];
    for (member, column) in Member::ALL.iter().zip([0, 1, 2, 3, 8, 8, 4, 8, 8, 8, 8, 8, 8, 5, 6]) {
        let column = if choices.one_in(8) { *choices.pick(&columns) } else { columns[column] };
        if !column.is_empty() {
            mapping.columns.insert(*member, column.to_owned());
        }
        if choices.one_in(8) {
            mapping.constants.insert(*member, choices.text());
        }
    }
    let patterns =
        ["%d.%m.%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S%.f%:z", "%s", "%+", "%c %z", "%j %U %G %V %u %p %I"];
    mapping.time_format = match choices.below(5) {
        0..=1 => TimeFormat::Rfc3339,
        2 => TimeFormat::UnixSeconds,
        3 => TimeFormat::UnixMilliseconds,
        _ => TimeFormat::Pattern {
            pattern: edit::text(&patterns, choices),
            offset: FixedOffset::east_opt(3600 * (i32::try_from(choices.below(25)).unwrap_or_default() - 12)),
        },
    };
    mapping.outcomes = [("ok".to_owned(), "succeeded".to_owned())].into();
    mapping.delimiter = *choices.pick(b",;\t|");
    let file = edit::text(&samples::exports().csv, choices);
    if import::csv::read(&file, &mapping, latest()).is_ok() {
        // The rest of the file may be one quoted field.
        let more =
            if file.contains('"') { "" } else { "web,production,v2,2026-08-02T00:00:01Z,succeeded,ada," };
        check(&file, more, |file| import::csv::read(file, &mapping, latest()).expect("it was read before"));
    }
}

/// Unpacks a file within a limit.
pub(crate) fn packed(choices: &mut Choices<'_>) {
    let limit = choices.below(2000);
    let is_marked = choices.one_in(2);
    let padding = choices.below(4);
    let text = choices.text();
    let mark = if is_marked { "\u{feff}" } else { "" };
    let mut file = Vec::new();
    for part in [mark, &text] {
        let mut encoder = GzEncoder::new(file, Compression::fast());
        encoder.write_all(part.as_bytes()).expect("memory");
        file = encoder.finish().expect("memory");
        file.resize(file.len() + padding, 0);
    }
    let unpacked = import::decode(&file, limit).ok();
    if mark.len() + text.len() <= limit {
        // A second mark is a character of the text.
        let expected = if is_marked { &*text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
        assert_eq!(unpacked.as_deref(), Some(expected));
    } else {
        assert_eq!(unpacked, None);
    }
    let cut = choices.below(file.len());
    for bytes in [choices.rest(), &file[..cut]] {
        assert!(import::decode(bytes, limit).ok().is_none_or(|text| text.len() <= limit));
    }
}
