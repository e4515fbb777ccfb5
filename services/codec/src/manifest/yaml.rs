//! A document as YAML 1.2 in block style. Every text is in double quotes, so that the versions `no`,
//! `1.10`, `1e3` and `null` are read as texts, by readers of YAML 1.1 too.

use super::document::{Key, Map, Node};
use super::json;

/// The document, ended by a line feed.
pub(super) fn document(node: &Node<'_>) -> String {
    let mut out = String::new();
    write(node, 0, &mut out);
    out
}

/// Writes a value after its key or dash, and ends the line.
fn write(node: &Node<'_>, depth: usize, out: &mut String) {
    match node {
        Node::Text(text) => line(&quoted(text), out),
        Node::Number(number) => line(&number.to_string(), out),
        Node::True => line("true", out),
        // Block style has no word for nothing.
        Node::List(items) if items.is_empty() => line("[]", out),
        Node::Map(map) if map.0.is_empty() => line("{}", out),
        Node::List(items) => {
            for item in items {
                indent(depth, out);
                out.push('-');
                match item {
                    // The first key stands on the dash's line, the others below it.
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

fn entries(map: &Map<'_>, depth: usize, continues: bool, out: &mut String) {
    for (index, (key, node)) in map.0.iter().enumerate() {
        if index > 0 || !continues {
            indent(depth, out);
        }
        match key {
            Key::Word(word) => out.push_str(word),
            Key::Name(name) => out.push_str(&quoted(name)),
        }
        out.push(':');
        value(node, depth + 1, out);
    }
}

/// A value on the line of its key or dash, or on the lines below.
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

/// YAML 1.2 reads JSON's escapes. What JSON leaves unescaped and some YAML reader would not read as
/// itself: the line breaks of YAML 1.1, the byte order mark, and what is not printable in the
/// specification's sense (section 5.1).
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
