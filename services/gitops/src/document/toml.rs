//! Documents in TOML.

use std::rc::Rc;

use toml_edit::{Array, ArrayOfTables, ImDocument, InlineTable, Item, Table, Value};

use super::Node;

/// Parses a document.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let document =
        ImDocument::parse(text).map_err(|error| format!("the file is not TOML: {}", error.message()))?;
    Ok(table(document.as_table(), text))
}

fn item(item: &Item, text: &str) -> Node {
    match item {
        Item::None => Node::Null,
        Item::Value(found) => value(found, text),
        Item::Table(found) => table(found, text),
        Item::ArrayOfTables(tables) => tables_of(tables, text),
    }
}

fn table(table: &Table, text: &str) -> Node {
    Node::Mapping(table.iter().map(|(name, found)| (name.to_owned(), Rc::new(item(found, text)))).collect())
}

fn tables_of(tables: &ArrayOfTables, text: &str) -> Node {
    Node::Sequence(tables.iter().map(|found| Rc::new(table(found, text))).collect())
}

fn value(found: &Value, text: &str) -> Node {
    match found {
        Value::String(string) => Node::Scalar { text: string.value().clone(), is_bare: false },
        Value::Array(items) => array(items, text),
        Value::InlineTable(members) => inline_table(members, text),
        _ => {
            let spelling = found.span().and_then(|span| text.get(span)).unwrap_or_default();
            Node::Scalar { text: spelling.trim().to_owned(), is_bare: true }
        }
    }
}

fn array(items: &Array, text: &str) -> Node {
    Node::Sequence(items.iter().map(|found| Rc::new(value(found, text))).collect())
}

fn inline_table(members: &InlineTable, text: &str) -> Node {
    Node::Mapping(
        members.iter().map(|(name, found)| (name.to_owned(), Rc::new(value(found, text)))).collect(),
    )
}
