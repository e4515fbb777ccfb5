//! The place of a value in a document: keys, list indexes and selectors.
//!
//! `image.tag`, `spec.sources[0].targetRevision`, `containers[name=web].image`,
//! `metadata.labels["app.kubernetes.io/version"]`. A selector at the start selects documents of a file with several:
//! `[kind=Deployment,metadata.name=web].spec.replicas`.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use crate::document::Node;

/// The place of a value in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    text: String,
    steps: Vec<Step>,
}

/// One step to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// The one item in which each of these paths of keys has the text beside it.
    Select(Vec<(Vec<String>, String)>),
}

/// Reason why a text is not a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a field such as image.tag, sources[0].chart or images[name=web].newTag: {detail}")]
pub struct FieldError {
    text: String,
    detail: &'static str,
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for FieldPath {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let steps = parse(text).map_err(|detail| FieldError { text: text.to_owned(), detail })?;
        Ok(Self { text: text.to_owned(), steps })
    }
}

fn parse(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = bracket(inner)?;
            steps.push(step);
            rest = after;
            if !rest.is_empty() && !rest.starts_with(['.', '[']) {
                return Err("a ']' is followed by '.', '[' or the end");
            }
        } else {
            let key_start = match rest.strip_prefix('.') {
                Some(after) if !steps.is_empty() => after,
                Some(_) => return Err("it starts with '.'"),
                None => rest,
            };
            let end = key_start.find(['.', '[']).unwrap_or(key_start.len());
            if end == 0 {
                return Err("a key is empty");
            }
            steps.push(Step::Key(key_start[..end].to_owned()));
            rest = &key_start[end..];
        }
    }
    if steps.is_empty() { Err("it is empty") } else { Ok(steps) }
}

/// Parses what follows a `[`; returns the step and what follows the `]`.
fn bracket(inner: &str) -> Result<(Step, &str), &'static str> {
    if let Some(quoted) = inner.strip_prefix('"') {
        let (key, rest) = quoted.split_once("\"]").ok_or("a quoted key does not end with '\"]'")?;
        return Ok((Step::Key(key.to_owned()), rest));
    }
    let (content, rest) = inner.split_once(']').ok_or("a '[' has no ']'")?;
    if let Ok(index) = content.parse() {
        return Ok((Step::Index(index), rest));
    }
    let mut conditions = Vec::new();
    for condition in content.split(',') {
        let (keys, value) =
            condition.split_once('=').ok_or("brackets hold an index, name=value or a quoted key")?;
        let keys: Vec<_> = keys.trim().split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err("a selector has an empty key");
        }
        conditions.push((keys, value.trim().to_owned()));
    }
    Ok((Step::Select(conditions), rest))
}

impl FieldPath {
    /// Creates the path of a key in mappings.
    pub(crate) fn of_keys(keys: &[&str]) -> Self {
        Self { text: keys.join("."), steps: keys.iter().map(|key| Step::Key((*key).to_owned())).collect() }
    }

    /// Returns the path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Finds the field in the documents of a file: the nodes of those documents that have it.
    ///
    /// # Errors
    /// No document has the field, and in one something stands in its way.
    pub(crate) fn find_all<'n>(&self, documents: &'n [Rc<Node>]) -> Result<Vec<&'n Node>, String> {
        let (selected, steps) = match self.steps.as_slice() {
            [Step::Select(conditions), steps @ ..] => {
                (documents.iter().filter(|document| selects(conditions, document)).collect(), steps)
            }
            steps => (documents.iter().collect::<Vec<_>>(), steps),
        };
        let (mut found, mut fault) = (Vec::new(), None);
        for document in selected {
            match walk(steps, document) {
                Ok(node) => found.extend(node),
                Err(detail) => fault = fault.or(Some(detail)),
            }
        }
        match fault {
            Some(detail) if found.is_empty() => Err(format!("{self}: {detail}")),
            _ => Ok(found),
        }
    }

    /// Finds the field in one node; `None` if a mapping or list on the way does not have it.
    ///
    /// # Errors
    /// Something else than a mapping or list stands in the way of the field, or it is not clear which node it is.
    pub(crate) fn find<'n>(&self, node: &'n Node) -> Result<Option<&'n Node>, String> {
        walk(&self.steps, node).map_err(|detail| format!("{self}: {detail}"))
    }
}

fn walk<'n>(steps: &[Step], node: &'n Node) -> Result<Option<&'n Node>, String> {
    let mut node = node;
    for step in steps {
        let next = match step {
            Step::Key(key) => node.get(key)?,
            Step::Index(index) => items(node)?.get(*index).map(Rc::as_ref),
            Step::Select(conditions) => {
                let mut selected = items(node)?.iter().filter(|item| selects(conditions, item));
                let first = selected.next();
                if selected.next().is_some() {
                    return Err("a selector matches several items of a list".to_owned());
                }
                first.map(Rc::as_ref)
            }
        };
        match next {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

fn items(node: &Node) -> Result<&[Rc<Node>], String> {
    match node {
        Node::Sequence(items) => Ok(items),
        other => Err(format!("an item is looked up in {}, not in a list", other.phrase())),
    }
}

fn selects(conditions: &[(Vec<String>, String)], node: &Node) -> bool {
    conditions.iter().all(|(keys, wanted)| {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        node.text_at(&keys) == Some(wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Format, parse};

    /// Returns the scalars that a field finds.
    fn found(field: &str, text: &str) -> Result<Vec<String>, String> {
        let documents = parse(Format::Yaml, text.as_bytes()).expect("YAML");
        let path: FieldPath = field.parse().expect("a field");
        let nodes = path.find_all(&documents)?;
        let text = |node: &&Node| match node {
            Node::Scalar { text, .. } => text.clone(),
            other => other.phrase().to_owned(),
        };
        Ok(nodes.iter().map(text).collect())
    }

    #[test]
    fn a_field_is_found_by_keys_indexes_and_selectors() {
        let text = "
image: {tag: v1}
sources: [{chart: a}, {chart: b}]
containers: [{name: web, image: w}, {name: log, image: l}]
labels: {app.kubernetes.io/version: v2}
";
        for (field, expected) in [
            ("image.tag", vec!["v1"]),
            ("sources[1].chart", vec!["b"]),
            ("sources[2].chart", vec![]),
            ("containers[name=log].image", vec!["l"]),
            ("containers[name=log,image=x].image", vec![]),
            (r#"labels["app.kubernetes.io/version"]"#, vec!["v2"]),
            ("image.missing.deeper", vec![]),
            ("image", vec!["a mapping"]),
        ] {
            assert_eq!(found(field, text), Ok(expected.into_iter().map(str::to_owned).collect()), "{field}");
        }
    }

    #[test]
    fn a_selector_at_the_start_selects_documents() {
        let text = "{kind: A, metadata: {name: x}, v: 1}\n---\n{kind: B, metadata: {name: x}, v: 2}\n";
        assert_eq!(found("v", text), Ok(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(found("[kind=B,metadata.name=x].v", text), Ok(vec!["2".to_owned()]));
        assert_eq!(found("[kind=C].v", text), Ok(vec![]));
    }

    #[test]
    fn a_field_behind_something_that_is_no_mapping_is_an_error_and_not_missing() {
        for text in ["image: web:v1", "image:", "image: [v1]", "image: !vault x", "just text"] {
            assert!(found("image.tag", text).is_err(), "{text}");
        }
        assert!(found("c[name=a].x", "c: [{name: a}, {name: a}]").is_err());
        assert_eq!(found("image.tag", "image: web:v1\n---\nimage: {tag: v1}\n"), Ok(vec!["v1".to_owned()]));
    }

    #[test]
    fn texts_that_are_no_fields_are_rejected() {
        for text in ["", ".", "a.", "a..b", ".a", "a[", "a[]", "a[x]", "a[=x]", "a[0]b", "a[\"x]", "a[b.=x]"]
        {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }
}
