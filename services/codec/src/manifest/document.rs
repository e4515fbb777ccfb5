//! A document: what JSON and YAML can both say. Keys stay in the order in which they were put.

use std::borrow::Cow;

/// A value.
pub(super) enum Node<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    True,
    List(Vec<Node<'a>>),
    Map(Map<'a>),
}

/// A mapping being written. Keys are put once each, so that it has no duplicates.
#[derive(Default)]
pub(super) struct Map<'a>(pub(super) Vec<(Key<'a>, Node<'a>)>);

/// A key.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// A word of the format, which needs no quotes.
    Word(&'static str),
    /// A name out of the ledger: `no` and `1e3` are names.
    Name(&'a str),
}

impl<'a> Map<'a> {
    pub(super) fn put(mut self, word: &'static str, value: Node<'a>) -> Self {
        self.0.push((Key::Word(word), value));
        self
    }

    pub(super) fn put_named(mut self, name: &'a str, value: Node<'a>) -> Self {
        self.0.push((Key::Name(name), value));
        self
    }

    pub(super) fn text(self, word: &'static str, text: impl Into<Cow<'a, str>>) -> Self {
        self.put(word, Node::Text(text.into()))
    }

    pub(super) fn maybe_text(self, word: &'static str, text: Option<impl Into<Cow<'a, str>>>) -> Self {
        match text {
            Some(text) => self.text(word, text),
            None => self,
        }
    }

    pub(super) fn node(self) -> Node<'a> {
        Node::Map(self)
    }
}
