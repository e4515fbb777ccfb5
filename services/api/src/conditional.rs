//! Conditional requests: entity tags and lists of them (RFC 9110, section 13.1).

use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

/// Returns the entity tag of a body, with its quotes: the first half of its SHA-256.
pub(crate) fn entity_tag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(body)[..16]))
}

/// Returns true if `name` (`If-None-Match`) is `*` or names the tag: the lists of all its fields, compared weakly.
pub(crate) fn names_tag(headers: &HeaderMap, name: HeaderName, tag: &str) -> bool {
    let fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
    fields.map(str::trim).any(|field| field == "*" || tags(field).any(|found| found == tag))
}

/// Returns the opaque tags of a list, in quotes and without the mark of a weak one.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let tag = rest.strip_prefix("W/").unwrap_or(rest);
        // A tag may contain a comma.
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = tag.split_at(end);
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    fn names(fields: &[&'static str]) -> bool {
        let field = |field: &&'static str| (header::IF_NONE_MATCH, HeaderValue::from_static(field));
        names_tag(&fields.iter().map(field).collect(), header::IF_NONE_MATCH, "\"a\"")
    }

    #[test]
    fn a_tag_matches_alone_in_a_list_weakly_or_by_the_asterisk() {
        for field in
            ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"x,y\" ,W/\"a\"", "\"b\",,\t\"a\"", "*", " \"a\" "]
        {
            assert!(names(&[field]), "{field}");
        }
        assert!(names(&["\"b\"", "\"a\""]), "the fields are one list");
    }

    #[test]
    fn another_tag_does_not_match() {
        for field in ["\"b\"", "\"A\"", "a", "\"x,\\\"a\\\"\"", "", "w/\"a\"", "\"b\" \"", "\"a"] {
            assert!(!names(&[field]), "{field}");
        }
        assert!(!names(&[]));
    }
}
