//! The JSON format (RFC 8259), indented by two spaces per level for readers and for `diff`.

use super::document::{Key, Node};

/// Writes the document and a line feed.
pub(super) fn document(node: &Node<'_>) -> String {
    let mut out = String::new();
    write(node, 0, &mut out);
    out.push('\n');
    out
}

/// Returns the text in double quotes, with JSON's escapes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(node: &Node<'_>, depth: usize, out: &mut String) {
    match node {
        Node::Text(text) => out.push_str(&quoted(text)),
        Node::Number(number) => out.push_str(&number.to_string()),
        Node::True => out.push_str("true"),
        Node::List(items) => {
            write_items(items, ['[', ']'], depth, out, |item, out| write(item, depth + 1, out));
        }
        Node::Map(map) => {
            write_items(&map.0, ['{', '}'], depth, out, |(key, value), out| {
                let (Key::Fixed(key) | Key::Name(key)) = key;
                out.push_str(&quoted(key));
                out.push_str(": ");
                write(value, depth + 1, out);
            });
        }
    }
}

/// Writes the items between a pair of brackets, one item per line.
fn write_items<T>(
    items: &[T],
    [open, close]: [char; 2],
    depth: usize,
    out: &mut String,
    write: impl Fn(&T, &mut String),
) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ",\n" } else { "\n" });
        out.push_str(&"  ".repeat(depth + 1));
        write(item, out);
    }
    if !items.is_empty() {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(close);
}
