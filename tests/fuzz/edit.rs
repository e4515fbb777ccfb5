//! Documents that are nearly valid: samples with a few edits, chosen by a fuzzer.

use std::sync::OnceLock;

use ledger_codec::secrets::examples::examples;
use serde_json::{Map, Value, json};

use crate::choices::Choices;

/// Maximum number of edits of a document.
const MAX_EDITS: usize = 8;

/// Maximum number of bytes of a text that an edit repeats.
const MAX_REPEATED: usize = 4 * 1024;

/// Texts at the borders of what parsers accept.
const WORDS: &[&str] = &[
    "",
    " ",
    "null",
    "0",
    "-1",
    "true",
    "production",
    "a/b",
    "/",
    ".",
    "..",
    "*",
    "v1.2.3",
    "refs/tags/v1",
    "refs/heads/main",
    "2026-08-01T12:00:00Z",
    "2026-08-01T12:00:00.123456789+14:00",
    "2026-08-01 12:00:00 UTC",
    "2026-08-01 14:00:00 +0200",
    "2016-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999-23:59",
    "+262142-12-31T23:59:59Z",
    "99999999999999999999",
    "9223372036854775807",
    "1e400",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "\u{fffe}",
    "e\u{301}",
    "\u{1f600}",
    "\r\n",
    "\t",
    "https://example.com/a?b=c#d",
    "https://[::1",
    "https://user:secret@example.com",
    "urn:example:a",
    "pkg:oci/search-api@sha256%3A1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc?tag=v1",
    "pkg:npm/%40shop/search@1.2.0?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086",
    "registry.example:5000/search-api:v1@sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc",
    "sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc",
    "5732a5872809a214337dc162d8b21f900429daae",
    "application/json; charset=utf-8",
    "1.0",
    "0.4.1",
    "{}",
    "[1]",
];

/// Parts of JSON text that are wrong in most places.
const FRAGMENTS: &[&str] = &[
    ",",
    ":",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "1e999",
    "-0",
    "0.1e-400",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "NaN",
    "null",
    "\"id\":\"1\",",
    "\"type\":1,",
    "\"data\":{},",
    "//",
    "\n",
    "\r\n",
    "%",
    "%C0",
    "%41",
    "@",
    "/",
    ";",
    "=",
    " ",
    "\u{e9}",
];

/// Returns a document: any bytes, or a sample with edits.
pub(crate) fn document(samples: &[Value], choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.below(4) {
        0 => choices.rest().to_owned(),
        1 => {
            let value = json(samples, choices).to_string();
            text(&[value], choices).into_bytes()
        }
        _ => json(samples, choices).to_string().into_bytes(),
    }
}

/// Returns a sample with edits of its values.
pub(crate) fn json(samples: &[Value], choices: &mut Choices<'_>) -> Value {
    let mut value = choices.pick(samples).clone();
    for _ in 0..choices.below(MAX_EDITS + 1) {
        edit(&mut value, samples, choices);
    }
    value
}

/// Returns a sample with edits of its characters.
pub(crate) fn text<T: AsRef<str>>(samples: &[T], choices: &mut Choices<'_>) -> String {
    let sample: &str = choices.pick(samples).as_ref();
    let mut text = sample.to_owned();
    for _ in 0..choices.below(MAX_EDITS + 1) {
        edit_text(&mut text, choices);
    }
    text
}

/// Returns a scalar, or an empty list or object.
pub(crate) fn scalar(choices: &mut Choices<'_>) -> Value {
    match choices.below(12) {
        0 => Value::Null,
        1 => json!(choices.one_in(2)),
        2 => json!(choices.byte()),
        3 => json!(i64::from(choices.byte()) - 128),
        4 => json!(u64::MAX >> choices.below(64)),
        5 => json!(i64::MIN >> choices.below(64)),
        6 => json!(*choices.pick(&[0.5, -0.0, 1e300, -1e-300, 1_785_585_600.25, 9_007_199_254_740_993.0])),
        7 => json!([]),
        8 => json!({}),
        9 => json!(choices.text()),
        10 => json!(choices.pick(secrets())),
        _ => json!(choices.pick(WORDS)),
    }
}

/// Returns an example of each well-known secret.
pub(crate) fn secrets() -> &'static [String] {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    SECRETS.get_or_init(|| examples().into_iter().map(|(_, secret)| secret).collect())
}

/// Changes one node of a value.
fn edit(value: &mut Value, samples: &[Value], choices: &mut Choices<'_>) {
    let mut index = choices.below(size(value));
    let Some(node) = nth(value, &mut index) else { return };
    match choices.below(10) {
        0 | 1 => *node = scalar(choices),
        2 => *node = part(samples, choices),
        3 => remove(node, choices),
        4 => insert(node, choices),
        5 => rename(node, choices),
        6 => {
            for _ in 0..1 << choices.below(8) {
                let inner = node.take();
                *node = if choices.one_in(2) { json!({ "a": inner }) } else { json!([inner]) };
            }
        }
        7 => repeat(node, choices),
        8 => match node {
            Value::String(text) => edit_text(text, choices),
            other => *other = Value::String(other.to_string()),
        },
        _ => match node {
            Value::Number(number) => {
                *node =
                    json!(number.as_i64().unwrap_or_default().wrapping_add(i64::from(choices.byte()) - 128));
            }
            Value::Bool(flag) => *flag = !*flag,
            Value::String(text) => {
                text.push_str(choices.pick::<&str>(WORDS));
            }
            other => *other = Value::Null,
        },
    }
}

/// Returns the number of nodes.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum::<usize>(),
        _ => 0,
    }
}

/// Returns a node by its number in depth-first order.
fn nth<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, left)),
        _ => None,
    }
}

/// Returns a node of a sample.
fn part(samples: &[Value], choices: &mut Choices<'_>) -> Value {
    let mut sample = choices.pick(samples).clone();
    let mut index = choices.below(size(&sample));
    nth(&mut sample, &mut index).map(Value::take).unwrap_or_default()
}

fn remove(node: &mut Value, choices: &mut Choices<'_>) {
    match node {
        Value::Array(items) if !items.is_empty() => drop(items.remove(choices.below(items.len()))),
        Value::Object(members) if !members.is_empty() => drop(members.remove(&name(members, choices))),
        other => *other = Value::Null,
    }
}

fn insert(node: &mut Value, choices: &mut Choices<'_>) {
    match node {
        Value::Array(items) => items.push(scalar(choices)),
        Value::Object(members) => {
            let name = match choices.below(8) {
                0..=3 => (*choices.pick(WORDS)).to_owned(),
                4..=6 => choices.text(),
                _ => choices.pick(secrets()).clone(),
            };
            members.insert(name, scalar(choices));
        }
        other => *other = json!({ "a": scalar(choices) }),
    }
}

fn rename(node: &mut Value, choices: &mut Choices<'_>) {
    let Value::Object(members) = node else { return };
    if let Some(value) = members.remove(&name(members, choices)) {
        let mut name = name(members, choices);
        edit_text(&mut name, choices);
        members.insert(name, value);
    }
}

fn repeat(node: &mut Value, choices: &mut Choices<'_>) {
    let count = 2_usize << choices.below(10);
    match node {
        Value::String(text) => *text = text.repeat(count.min(MAX_REPEATED / text.len().max(1))),
        Value::Array(items) => {
            let count = count.min(MAX_REPEATED / size(&json!(items)).max(1));
            *items = std::iter::repeat_n(items.clone(), count).flatten().collect();
        }
        other => *other = json!([other.clone(), other.clone()]),
    }
}

/// Returns the name of a member; empty if there is none.
fn name(members: &Map<String, Value>, choices: &mut Choices<'_>) -> String {
    members.keys().nth(choices.below(members.len())).cloned().unwrap_or_default()
}

/// Changes one place of a text.
fn edit_text(text: &mut String, choices: &mut Choices<'_>) {
    let start = boundary(text, choices);
    let end = boundary(text, choices);
    let (start, end) = (start.min(end), start.max(end));
    let replacement = match choices.below(7) {
        0 => String::new(),
        1 => text[start..end].repeat(2),
        2 => (*choices.pick(WORDS)).to_owned(),
        3 => choices.text(),
        4 => return text.insert_str(start, choices.pick::<&str>(FRAGMENTS)),
        5 => return text.truncate(start),
        _ => return text.insert(start, char::from(choices.byte())),
    };
    text.replace_range(start..end, &replacement);
}

/// Returns the place of a character.
fn boundary(text: &str, choices: &mut Choices<'_>) -> usize {
    let mut place = choices.below(text.len() + 1);
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}
