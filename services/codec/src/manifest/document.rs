//! A document of values that both JSON and YAML can express. Keys keep their insertion order.

use std::borrow::Cow;

/// A value.
pub(super) enum Node<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    True,
    List(Vec<Node<'a>>),
    Map(Map<'a>),
}

/// A builder of a mapping. Callers put each key once, so that there are no duplicates.
#[derive(Default)]
pub(super) struct Map<'a>(pub(super) Vec<(Key<'a>, Node<'a>)>);

/// A key.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// A key that the format defines; it needs no quotes in YAML.
    Fixed(&'static str),
    /// A name from the ledger; it needs quotes in YAML, since `no` and `1e3` are valid names.
    Name(&'a str),
}

impl<'a> Map<'a> {
    pub(super) fn put(mut self, key: &'static str, value: Node<'a>) -> Self {
        self.0.push((Key::Fixed(key), value));
        self
    }

    pub(super) fn put_named(mut self, name: &'a str, value: Node<'a>) -> Self {
        self.0.push((Key::Name(name), value));
        self
    }

    pub(super) fn text(self, key: &'static str, text: impl Into<Cow<'a, str>>) -> Self {
        self.put(key, Node::Text(text.into()))
    }

    pub(super) fn optional_text(self, key: &'static str, text: Option<impl Into<Cow<'a, str>>>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    pub(super) fn node(self) -> Node<'a> {
        Node::Map(self)
    }
}
