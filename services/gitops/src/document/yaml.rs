//! Documents in YAML.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::Node;

/// Maximum depth of collections in collections.
const NESTING_LIMIT: usize = 128;

/// A collection that is not complete yet.
enum Open {
    Sequence { anchor: usize, depth: usize, items: Vec<Rc<Node>> },
    Mapping { anchor: usize, depth: usize, members: Vec<(String, Rc<Node>)>, key: Option<Rc<Node>> },
}

/// A complete node, and the number of levels of collections in it, through aliases too.
#[derive(Clone)]
struct Complete {
    node: Rc<Node>,
    depth: usize,
}

/// The nodes of a document, built from the parser's events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Complete>,
    root: Option<Rc<Node>>,
}

/// Parses the documents of a stream.
pub(super) fn parse(text: &str) -> Result<Vec<Rc<Node>>, String> {
    let options = granit_parser::options! {
        flow_nesting_limit: NESTING_LIMIT,
        block_nesting_limit: NESTING_LIMIT,
    };
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, _) = next.map_err(|error| format!("the file is not YAML: {error}"))?;
        match event {
            Event::DocumentStart(..) => builder = Builder::default(),
            Event::DocumentEnd => {
                let Builder { root, .. } = std::mem::take(&mut builder);
                documents.extend(root);
            }
            event => builder.apply(event)?,
        }
    }
    Ok(documents)
}

impl Builder {
    fn apply(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.add(anchor, scalar(text.into_owned(), style, tag.as_deref()), 0)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(complete) => self.place(complete),
                None => Err("the file has an alias inside of what it refers to".to_owned()),
            },
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open::Sequence { anchor, depth: 0, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open::Mapping { anchor, depth: 0, members: Vec::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence { anchor, depth, items }) => {
                    self.add(anchor, Node::Sequence(items), depth + 1)
                }
                Some(Open::Mapping { anchor, depth, members, .. }) => {
                    self.add(anchor, Node::Mapping(members), depth + 1)
                }
                None => Err("the file ends a collection that it did not begin".to_owned()),
            },
            _ => Ok(()),
        }
    }

    fn add(&mut self, anchor: usize, node: Node, depth: usize) -> Result<(), String> {
        let complete = Complete { node: Rc::new(node), depth };
        if anchor != 0 {
            self.anchors.insert(anchor, complete.clone());
        }
        self.place(complete)
    }

    /// Puts a complete node into the innermost open collection.
    fn place(&mut self, complete: Complete) -> Result<(), String> {
        // Dropping a node recurses to its depth.
        if complete.depth > NESTING_LIMIT {
            return Err(format!(
                "the file has more than {NESTING_LIMIT} levels, counted through its aliases"
            ));
        }
        let Complete { node, depth: inner } = complete;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, depth, .. }) => {
                *depth = inner.max(*depth);
                items.push(node);
            }
            Some(Open::Mapping { members, key, depth, .. }) => {
                *depth = inner.max(*depth);
                match key.take() {
                    None => *key = Some(node),
                    Some(name) => match &*name {
                        Node::Scalar { text, .. } => members.push((text.clone(), node)),
                        // No field names a key that is a collection.
                        Node::Null | Node::Sequence(_) | Node::Mapping(_) | Node::Opaque(_) => {}
                    },
                }
            }
        }
        Ok(())
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Node {
    if let Some(tag) = tag.filter(|tag| tag.is_custom() || tag.is_yaml_core_schema_tag("binary")) {
        return Node::Opaque(tag.original());
    }
    let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if is_text {
        return Node::Scalar { text, is_bare: false };
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        _ => {
            let is_bare = is_number(&text) || matches!(&*text.to_ascii_lowercase(), "true" | "false");
            Node::Scalar { text, is_bare }
        }
    }
}

/// Returns true if readers of YAML 1.1 or 1.2 take a plain scalar for a number.
fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']).replace('_', "");
    let is_radix = |prefix: &str| digits.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    let is_decimal =
        digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok();
    is_decimal || is_radix("0x") || is_radix("0o") || is_radix("0b")
}
