//! JSON as YAML: block style, with the members in their order.
//!
//! Invariants: parsers of YAML 1.1 and of YAML 1.2 read the same values. A string is plain only if neither takes it for a
//! value of another type; every other one is in double quotes. Unprintable characters are escaped, so that the output
//! cannot control a terminal.

use std::fmt::{self, Write as _};

use ledger_domain::is_format;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Words that some parser takes for null, a boolean or a number, in lower case.
const RESERVED: [&str; 12] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];

/// A JSON value whose objects keep the order of their members.
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// Returns JSON as a YAML document, which ends with a line feed.
///
/// # Errors
/// The text is not JSON.
pub(super) fn from_json(json: &[u8]) -> Result<String, serde_json::Error> {
    let node: Node = serde_json::from_slice(json)?;
    let mut out = String::with_capacity(json.len());
    block(&node, 0, &mut out);
    Ok(out)
}

/// Writes a value after its key or dash, or as the document, and a line feed.
fn block(node: &Node, depth: usize, out: &mut String) {
    match node {
        Node::List(items) if node.is_block() => {
            for item in items {
                indent(depth, out);
                out.push('-');
                match item {
                    // The first member is on the line of the dash, the others are below it.
                    Node::Map(map) if item.is_block() => {
                        out.push(' ');
                        members(map, depth + 1, true, out);
                    }
                    _ => value(item, depth + 1, out),
                }
            }
        }
        Node::Map(map) if node.is_block() => members(map, depth, false, out),
        _ => {
            out.push_str(&node.scalar());
            out.push('\n');
        }
    }
}

fn members(map: &[(String, Node)], depth: usize, is_inline: bool, out: &mut String) {
    for (index, (name, node)) in map.iter().enumerate() {
        if index > 0 || !is_inline {
            indent(depth, out);
        }
        out.push_str(&text(name));
        out.push(':');
        value(node, depth + 1, out);
    }
}

/// Writes a value on the line of its key or dash, or a block on the lines below.
fn value(node: &Node, depth: usize, out: &mut String) {
    out.push(if node.is_block() { '\n' } else { ' ' });
    block(node, depth, out);
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

impl Node {
    /// Returns true for a collection that block style can express.
    const fn is_block(&self) -> bool {
        match self {
            Self::List(items) => !items.is_empty(),
            Self::Map(members) => !members.is_empty(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }

    /// Returns a scalar or an empty collection.
    fn scalar(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => number(value),
            Self::Text(value) => text(value),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// Returns a number. An exponent has a sign, and a fraction before it: without them, YAML 1.1 reads a string.
fn number(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text };
    let fraction = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{mantissa}{fraction}e{sign}{exponent}")
}

fn text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Returns true if every parser reads the text as this string, without quotes.
fn is_plain(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || " _./@+,()-:;='".contains(c);
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(is_allowed)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}

/// Returns the text in double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unprintable(c) => {
                let code = u32::from(c);
                // Writing to a string does not fail.
                let _ =
                    if code <= 0xffff { write!(out, "\\u{code:04x}") } else { write!(out, "\\U{code:08x}") };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns true for characters that a terminal obeys or does not show, and for those that YAML does not allow.
fn is_unprintable(c: char) -> bool {
    c.is_control() || is_format(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Texts that YAML 1.1 or 1.2 reads as another type, or not at all, if they are not quoted.
    const TRICKY: [&str; 44] = [
        "",
        " ",
        " a",
        "a ",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "- a",
        "-",
        "?",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'a'",
        "\"a\"",
        "[a]",
        "{a}",
        "~",
        "null",
        "Null",
        "true",
        "FALSE",
        "yes",
        "No",
        "on",
        "Off",
        "y",
        "N",
        "1",
        "1.10",
        "1e3",
        "0x1f",
        "0o7",
        "12:30:00",
        "2026-08-01",
        "2026-08-01T12:00:00Z",
        "---",
        "=",
    ];

    fn read(yaml: &str) -> Value {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
    }

    fn yaml(value: &Value) -> String {
        from_json(value.to_string().as_bytes()).expect("JSON")
    }

    #[test]
    fn a_document_is_in_block_style_in_the_order_of_its_members() {
        let json = br#"{"position":7,"environment":"dev","lanes":[{"service":"web","since":"2026-08-01T12:00:00Z",
            "release":{"version":"1.10"}},{"service":"no","slots":[]}],"lists":[[1,2],[]],"next":null,"more":{},
            "digest":"sha256:ab12","drift":false}"#;
        assert_eq!(
            from_json(json).expect("JSON"),
            "position: 7\nenvironment: dev\nlanes:\n  - service: web\n    since: \"2026-08-01T12:00:00Z\"\n    \
             release:\n      version: \"1.10\"\n  - service: \"no\"\n    slots: []\nlists:\n  -\n    - 1\n    - 2\n  - []\n\
             next: null\nmore: {}\ndigest: sha256:ab12\ndrift: false\n"
        );
    }

    #[test]
    fn a_parser_reads_the_same_values_back() {
        let mut texts: Vec<String> = TRICKY.map(str::to_owned).into();
        texts.extend(
            ["web", "v1.2.3", "The sale starts.", "Ada's (2)", "é 😀", "a\nb\tc\r", "\\", "a\"b"]
                .map(str::to_owned),
        );
        texts.extend(
            "\0\u{7f}\u{85}\u{a0}\u{202e}\u{2028}\u{2029}\u{feff}\u{e0061}\u{ffff}".chars().map(String::from),
        );
        let value = json!({
            "texts": texts,
            "keys": texts.iter().map(|text| (text.clone(), json!(1))).collect::<serde_json::Map<_, _>>(),
            "numbers": [0, -1, u64::MAX, i64::MIN, 0.5, -2.25, 1e30, 1e-9],
            "nested": [[[{"a": [{}]}]], {"b": {"c": [true, null]}}],
        });
        assert_eq!(read(&yaml(&value)), value);
        for value in [json!([]), json!({}), json!("no"), json!(null), json!([1, "1"])] {
            assert_eq!(read(&yaml(&value)), value);
        }
    }

    #[test]
    fn what_yaml_reads_as_another_type_is_quoted() {
        for text in TRICKY {
            assert!(yaml(&json!(text)).starts_with('"'), "{text:?}");
        }
        for text in ["web", "v1", "e5", "sha256:ab12", "pkg:oci/web@sha256:ab", "The sale starts, at last."] {
            assert_eq!(yaml(&json!(text)), format!("{text}\n"));
        }
        assert_eq!(
            (yaml(&json!(1e30)), yaml(&json!(1.5e-9))),
            ("1.0e+30\n".to_owned(), "1.5e-9\n".to_owned())
        );
    }

    #[test]
    fn nothing_in_it_controls_a_terminal() {
        let text = "\u{1b}[2J\u{9b}\u{202e}\u{e0061}";
        assert_eq!(yaml(&json!(text)), "\"\\u001b[2J\\u009b\\u202e\\U000e0061\"\n");
        assert!(from_json(b"<b>\x1b[2J").is_err());
    }
}
