//! Foreign text as text of an event: lines, prose, links and sources.
//!
//! Text that decorates an event is shortened and cleaned, and left out if it contains a secret, so that an event is
//! never rejected for its decoration.

use ledger_codec::secrets;
use ledger_domain::{LongText, ShortText, is_format};
use sha2::{Digest as _, Sha256};

use crate::uri;

/// Returns a text as one line of at most 512 bytes; `None` if nothing is left, or if it contains a secret.
pub(crate) fn line(text: &str) -> Option<String> {
    if has_secret(text) {
        return None;
    }
    let shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !is_format(*c)).collect();
    let words: Vec<_> = shown.split_whitespace().collect();
    let cut = cut(&words.join(" "), ShortText::LIMIT).trim().to_owned();
    ShortText::parse(&cut).is_ok().then_some(cut)
}

/// Returns a text as prose of at most 4,096 bytes; `None` if nothing is left, or if it contains a secret.
pub(crate) fn prose(text: &str) -> Option<String> {
    if has_secret(text) {
        return None;
    }
    let is_kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let shown: String = text.replace("\r\n", "\n").chars().filter(is_kept).collect();
    let cut = cut(shown.trim(), LongText::LIMIT).trim().to_owned();
    LongText::parse(&cut).is_ok().then_some(cut)
}

/// Returns a URL to which an event may link; `None` if it is no `http` or `https` URL, or contains a secret.
pub(crate) fn href(text: &str) -> Option<String> {
    let text = text.trim();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_clean =
        !authority.is_empty() && !authority.contains('@') && uri::encode(text) == text && !has_secret(text);
    (is_clean && text.len() <= ShortText::LIMIT).then(|| text.to_owned())
}

/// Returns a text as the source of an event: characters that no URI reference may contain are percent-encoded. A text
/// that is too long is replaced by its digest.
pub(crate) fn source(text: &str) -> String {
    let escaped = uri::encode(text.trim());
    if escaped.len() <= ShortText::LIMIT && ShortText::parse(&escaped).is_ok() {
        escaped
    } else {
        digest(text)
    }
}

/// Returns a text as the id of an event. A text that is no line, or too long, is replaced by its digest.
pub(crate) fn id(text: &str) -> String {
    if ShortText::parse(text).is_ok() { text.to_owned() } else { digest(text) }
}

/// Returns the SHA-256 of a text, as `sha256:` and 64 digits.
pub(crate) fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes())))
}

/// Returns true for a full commit id of git: 40 or 64 hexadecimal digits.
pub(crate) fn is_full_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns true if a text matches a pattern, in which `*` stands for any characters. Upper and lower case are different.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.len() >= last.len() && text.ends_with(last)
}

fn has_secret(text: &str) -> bool {
    secrets::find(text).is_some()
}

/// Returns the longest start of a text with at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cleaned_and_shortened() {
        assert_eq!(line(" a\n\tb\u{202e}c ").as_deref(), Some("a bc"));
        assert_eq!(line("\u{200b}\n"), None);
        assert_eq!(line(&"é".repeat(400)).map(|text| text.len()), Some(512));
        assert_eq!(prose(&"é".repeat(4000)).map(|text| text.len()), Some(4096));
        assert_eq!(prose("a\r\n\u{7}b\n").as_deref(), Some("a\nb"));
    }

    #[test]
    fn decoration_with_a_secret_is_left_out() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        assert_eq!(line(&format!("failed with {token}")), None);
        assert_eq!(prose(&token), None);
        assert_eq!(href("https://user:password@ci.example/1"), None);
    }

    #[test]
    fn a_link_is_a_clean_url() {
        assert_eq!(
            href("https://ci.example/runs/1?a=b#c").as_deref(),
            Some("https://ci.example/runs/1?a=b#c")
        );
        for text in
            ["javascript:alert(1)", "ftp://a/b", "https://", "https://a/b c", "/relative", "https://a/é"]
        {
            assert_eq!(href(text), None, "{text}");
        }
    }

    #[test]
    fn a_source_is_percent_encoded() {
        assert_eq!(source("https://a/b c#d#é"), "https://a/b%20c#d%23%C3%A9");
        assert_eq!(source("a%20b%2"), "a%20b%252");
        assert!(source(&"x".repeat(600)).starts_with("sha256:"));
        assert!(source("").starts_with("sha256:"));
    }

    #[test]
    fn a_pattern_matches_with_stars() {
        for (pattern, text, expected) in [
            ("main", "main", true),
            ("main", "main2", false),
            ("review/*", "review/a/b", true),
            ("review/*", "preview/a", false),
            ("*-eu-*", "prod-eu-1", true),
            ("a*a", "a", false),
            ("a*b*c", "abbc", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
