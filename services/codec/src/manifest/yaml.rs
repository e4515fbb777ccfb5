//! The YAML format: YAML 1.2 in block style. Every string is in double quotes, so that parsers, those of YAML 1.1
//! included, read the versions `no`, `1.10`, `1e3` and `null` as strings.

use super::document::{Key, Map, Node};
use super::json;

/// Writes the document and a line feed.
pub(super) fn document(node: &Node<'_>) -> String {
    let mut out = String::new();
    write(node, 0, &mut out);
    out
}

/// Writes a value after its key or dash, and a line feed.
fn write(node: &Node<'_>, depth: usize, out: &mut String) {
    match node {
        Node::Text(text) => line(&quoted(text), out),
        Node::Number(number) => line(&number.to_string(), out),
        Node::True => line("true", out),
        // Block style cannot express an empty collection.
        Node::List(items) if items.is_empty() => line("[]", out),
        Node::Map(map) if map.0.is_empty() => line("{}", out),
        Node::List(items) => {
            for item in items {
                indent(depth, out);
                out.push('-');
                match item {
                    // The first key is on the line of the dash, the others are below it.
                    Node::Map(map) if !map.0.is_empty() => {
                        out.push(' ');
                        entries(map, depth + 1, true, out);
                    }
                    _ => value(item, depth + 1, out),
                }
            }
        }
        Node::Map(map) => entries(map, depth, false, out),
    }
}

fn entries(map: &Map<'_>, depth: usize, is_inline: bool, out: &mut String) {
    for (index, (key, node)) in map.0.iter().enumerate() {
        if index > 0 || !is_inline {
            indent(depth, out);
        }
        match key {
            Key::Fixed(key) => out.push_str(key),
            Key::Name(name) => out.push_str(&quoted(name)),
        }
        out.push(':');
        value(node, depth + 1, out);
    }
}

/// Writes a value on the line of its key or dash, or a block on the lines below.
fn value(node: &Node<'_>, depth: usize, out: &mut String) {
    let is_block = match node {
        Node::List(items) => !items.is_empty(),
        Node::Map(map) => !map.0.is_empty(),
        Node::Text(_) | Node::Number(_) | Node::True => false,
    };
    out.push(if is_block { '\n' } else { ' ' });
    write(node, depth, out);
}

fn line(text: &str, out: &mut String) {
    out.push_str(text);
    out.push('\n');
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

/// Returns the text in double quotes, with JSON's escapes, which YAML 1.2 supports. Also escapes characters that JSON
/// leaves unescaped and some YAML parsers would not preserve: the line breaks of YAML 1.1, the byte order mark, and
/// characters that the specification does not define as printable (section 5.1).
fn quoted(text: &str) -> String {
    json::quoted(text).chars().fold(String::new(), |mut out, character| {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
        out
    })
}
