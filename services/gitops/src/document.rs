//! Documents of a file in YAML, JSON or TOML, as far as the fields of releases need them.
//!
//! A scalar keeps the spelling of the file: a version written as the number `1.10` is `1.10` and not `1.1`.

mod json;
mod toml;
mod yaml;

use std::collections::HashSet;
use std::rc::Rc;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, with one or more documents.
    Yaml,
    /// JSON.
    Json,
    /// TOML.
    Toml,
}

impl Format {
    /// Returns the format of a file by the extension of its name.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// A part of a document.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    /// Null, or nothing where a value could be.
    Null,
    /// A text, a number, a boolean or a time, as spelled.
    Scalar {
        text: String,
        /// True if the format reads the scalar as another type than text.
        is_bare: bool,
    },
    /// A list.
    Sequence(Vec<Rc<Node>>),
    /// A mapping, with repeated keys if the file has them.
    Mapping(Vec<(String, Rc<Node>)>),
    /// A value with a tag of an application, the content of which is unknown.
    Opaque(String),
}

impl Node {
    /// Returns a phrase for the node in messages.
    pub(crate) const fn phrase(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Scalar { .. } => "a scalar",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
            Self::Opaque(_) => "a value with a tag of an application",
        }
    }

    /// Returns the values of a key, those of merged mappings (`<<`) only if the mapping itself has none.
    fn values<'n>(&'n self, key: &str) -> Vec<&'n Node> {
        let own = self.own_values(key);
        if !own.is_empty() || key == "<<" {
            return own;
        }
        self.merged(key, &mut HashSet::new()).into_iter().collect()
    }

    fn own_values<'n>(&'n self, key: &str) -> Vec<&'n Node> {
        let Self::Mapping(members) = self else { return Vec::new() };
        members.iter().filter(|(name, _)| name == key).map(|(_, node)| node.as_ref()).collect()
    }

    /// Returns the value of a key in the first merged mapping that has it. Searches each mapping once, however often it
    /// is merged.
    fn merged<'n>(&'n self, key: &str, searched: &mut HashSet<*const Node>) -> Option<&'n Node> {
        if !searched.insert(std::ptr::from_ref(self)) {
            return None;
        }
        self.own_values("<<").into_iter().find_map(|merged| {
            let mappings: Vec<&Node> = match merged {
                Self::Sequence(mappings) => mappings.iter().map(Rc::as_ref).collect(),
                mapping => vec![mapping],
            };
            mappings.into_iter().find_map(|mapping| {
                mapping.own_values(key).first().copied().or_else(|| mapping.merged(key, searched))
            })
        })
    }

    /// Returns the value of a key of a mapping; `None` if the mapping does not have the key.
    ///
    /// # Errors
    /// The node is not a mapping, or has the key several times.
    pub(crate) fn get(&self, key: &str) -> Result<Option<&Node>, String> {
        if !matches!(self, Self::Mapping(_)) {
            return Err(format!("{key:?} is looked up in {}, not in a mapping", self.phrase()));
        }
        let values = self.values(key);
        match *values.as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(format!("the key {key:?} stands {} times in a mapping", values.len())),
        }
    }

    /// Returns the text of a scalar at a path of keys, without looking into values that are not mappings.
    pub(crate) fn text_at(&self, keys: &[&str]) -> Option<&str> {
        let mut node = self;
        for key in keys {
            node = node.get(key).ok()??;
        }
        match node {
            Self::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// Parses the documents of a file. Documents without content are left out.
///
/// # Errors
/// The file is not in the format.
pub(crate) fn parse(format: Format, bytes: &[u8]) -> Result<Vec<Rc<Node>>, String> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err("the file is stored with Git LFS; the repository has a pointer only".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the file is not UTF-8: {error}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = match format {
        Format::Yaml => yaml::parse(text)?,
        Format::Json => vec![Rc::new(json::parse(text)?)],
        Format::Toml => vec![Rc::new(toml::parse(text)?)],
    };
    documents.retain(|document| **document != Node::Null);
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(format: Format, text: &str) -> Vec<Option<String>> {
        let documents = parse(format, text.as_bytes()).expect(text);
        documents.iter().map(|document| document.text_at(&["image", "tag"]).map(str::to_owned)).collect()
    }

    fn found(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn a_scalar_keeps_the_spelling_of_the_file() {
        for spelling in ["1.10", "1e3", "0x1F", "007", "true", "1_000", "2024-01-02", "-0.0"] {
            assert_eq!(version(Format::Yaml, &format!("image: {{tag: {spelling}}}")), found(&[spelling]));
            assert_eq!(
                version(Format::Yaml, &format!("image:\n  tag: {spelling} # why\n")),
                found(&[spelling])
            );
        }
        for spelling in ["1.10", "1e3", "-0.0", "true", "12345678901234567890.10"] {
            assert_eq!(
                version(Format::Json, &format!("{{\"image\": {{\"tag\": {spelling} }}}}")),
                found(&[spelling])
            );
        }
        for spelling in ["1.10", "1e3", "0x1F", "1_000", "2024-01-02", "true"] {
            assert_eq!(
                version(Format::Toml, &format!("[image]\ntag = {spelling} # why\n")),
                found(&[spelling])
            );
        }
    }

    #[test]
    fn a_text_is_unescaped() {
        assert_eq!(version(Format::Yaml, "image: {tag: \"v\\x31\"}"), found(&["v1"]));
        assert_eq!(version(Format::Yaml, "image: {tag: 'it''s'}"), found(&["it's"]));
        assert_eq!(version(Format::Json, r#"{"image": {"tag": "v\u0031"}}"#), found(&["v1"]));
        assert_eq!(version(Format::Toml, "image.tag = \"v\\u0031\""), found(&["v1"]));
    }

    #[test]
    fn documents_of_a_stream_are_separate_and_empty_ones_are_left_out() {
        let text = "---\n# nothing\n---\nimage: {tag: a}\n---\nimage: {tag: b}\n...\n";
        assert_eq!(version(Format::Yaml, text), found(&["a", "b"]));
        assert_eq!(version(Format::Yaml, ""), []);
        assert_eq!(version(Format::Yaml, "\u{feff}image: {tag: a}\r\n"), found(&["a"]));
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "base: &base {image: {tag: a}}\n<<: *base\n";
        assert_eq!(version(Format::Yaml, text), found(&["a"]));
        let text = "base: &base {image: {tag: a}}\n<<: [{x: 1}, *base]\nimage: {tag: b}\n";
        assert_eq!(version(Format::Yaml, text), found(&["b"]));
        assert_eq!(version(Format::Yaml, "t: &t v1\nimage: {tag: *t}\n"), found(&["v1"]));
    }

    #[test]
    fn aliases_of_aliases_do_not_multiply() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..60 {
            let alias = format!("*a{}", n - 1);
            text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![alias; 10].join(", ")));
        }
        text.push_str("image: {tag: v1}\n");
        assert_eq!(version(Format::Yaml, &text), found(&["v1"]));
    }

    #[test]
    fn a_chain_of_aliases_has_a_bounded_length() {
        let mut text = "a0: &a0 {x: y}\n".to_owned();
        for n in 1..50_000 {
            text.push_str(&format!("a{n}: &a{n} {{<<: *a{}}}\n", n - 1));
        }
        let error = parse(Format::Yaml, text.as_bytes()).expect_err("too deep");
        assert!(error.contains("levels"), "{error}");
    }

    #[test]
    fn what_cannot_be_parsed_is_an_error() {
        let deep = "[".repeat(100_000);
        for (format, text) in [
            (Format::Yaml, "image: {tag: v1"),
            (Format::Yaml, "image:\n tag: v1\n  x: y\n"),
            (Format::Yaml, "<<<<<<< HEAD\nimage: v1\n=======\nimage: v2\n>>>>>>> topic\n"),
            (Format::Yaml, "a: *unknown"),
            (Format::Yaml, "{{ if .Values.x }}\na: b\n"),
            (Format::Yaml, &deep),
            (Format::Json, "{\"a\": 1"),
            (Format::Json, "{\"a\": 1} x"),
            (Format::Json, ""),
            (Format::Json, &deep),
            (Format::Toml, "a = "),
            (Format::Toml, &format!("a = {deep}")),
            (Format::Yaml, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"),
        ] {
            assert!(parse(format, text.as_bytes()).is_err(), "{}", text.chars().take(80).collect::<String>());
        }
        assert!(parse(Format::Yaml, b"a: \xff").is_err());
    }

    #[test]
    fn a_repeated_key_is_an_error_only_where_it_is_looked_up() {
        for (format, text) in [(Format::Yaml, "a: 1\nb: 2\nb: 3\n"), (Format::Json, r#"{"a":1,"b":2,"b":3}"#)]
        {
            let documents = parse(format, text.as_bytes()).expect("a document");
            assert!(documents[0].get("a").is_ok());
            assert!(documents[0].get("b").is_err());
        }
    }
}
