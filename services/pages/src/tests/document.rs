//! Strict reader of rendered pages: it accepts only what the templates write, so that text which becomes markup fails.

/// Elements without an end tag.
const VOID: [&str; 3] = ["input", "link", "meta"];

/// Page as its elements and its text.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) elements: Vec<Element>,
    /// Text outside of tags, unescaped.
    pub(super) text: String,
}

/// Start tag.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    /// Attributes with their unescaped values.
    pub(super) attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Document {
    /// Reads a page.
    ///
    /// # Panics
    /// The page is not what the templates write: a tag is malformed, or the tags are not balanced.
    pub(super) fn read(html: &str) -> Self {
        let mut rest = html.strip_prefix("<!doctype html>\n").expect("a page starts with its doctype");
        let mut document = Self::default();
        let mut open: Vec<String> = Vec::new();
        while let Some(start) = rest.find('<') {
            document.text.push_str(&unescaped(&rest[..start]));
            rest = &rest[start + 1..];
            let (tag, after) = rest.split_at(tag_end(rest));
            rest = &after[1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "tags are balanced: {html}");
                continue;
            }
            let element = element(tag);
            if !VOID.contains(&element.name.as_str()) {
                open.push(element.name.clone());
            }
            document.elements.push(element);
        }
        assert!(rest.trim().is_empty() && open.is_empty(), "tags are balanced: {html}");
        document
    }

    /// Returns the elements with this name.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements.iter().filter(move |element| element.name == name)
    }

    /// Returns the values of an attribute.
    pub(super) fn values<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a str> {
        self.elements.iter().filter_map(move |element| element.attribute(attribute))
    }
}

/// Returns the index of the end of a tag, which is not in a quoted value.
fn tag_end(tag: &str) -> usize {
    let mut is_quoted = false;
    for (index, c) in tag.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return index,
            _ => {}
        }
    }
    panic!("a tag has no end: {tag}");
}

fn element(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(is_name(name), "name of an element: {tag}");
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Element { name: name.to_owned(), attributes };
        }
        let (attribute, after) = rest.split_at(rest.find(['=', ' ']).unwrap_or(rest.len()));
        assert!(is_name(attribute), "name of an attribute: {tag}");
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').expect("a value ends with a quote"),
            None => ("", after),
        };
        assert!(!value.contains(['<', '>', '\'']), "an escaped value: {tag}");
        attributes.push((attribute.to_owned(), unescaped(value)));
        rest = after;
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn unescaped(text: &str) -> String {
    let references = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    references.iter().fold(text.to_owned(), |text, (reference, c)| text.replace(reference, c))
}
