//! Escapes of control and format characters in the texts that pages show. Templates escape them for HTML.

use ledger_domain::{escape_line, escape_unprintable};

/// Returns a text on one line, with control and format characters visible. Templates escape it for HTML.
pub(crate) fn shown(text: &str) -> String {
    escape_line(text).into_owned()
}

/// Returns a text that may have several lines, with the other control and format characters visible.
pub(crate) fn shown_lines(text: &str) -> String {
    escape_unprintable(text).into_owned()
}

/// Returns a word of the API as prose: `known_good` is `known good`.
pub(crate) fn prose(word: &str) -> String {
    shown(word).replace('_', " ")
}

/// Returns the text if a page may link to it: an absolute URL with the scheme `http` or `https` and without characters
/// that are invisible or not part of a URL.
pub(crate) fn web_link(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let is_plain =
        |c: char| !c.is_whitespace() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let has_host = rest.chars().next().is_some_and(char::is_alphanumeric);
    (has_host && rest.chars().all(is_plain) && shown(text) == text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_become_visible() {
        assert_eq!(shown("v1\u{202e}2\u{0}\n"), "v1\\u{202e}2\\u{0}\\n");
        assert_eq!(shown_lines("a\nb\u{200b}"), "a\nb\\u{200b}");
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(web_link("https://ci.example/run?id=1").as_deref(), Some("https://ci.example/run?id=1"));
        for text in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            " https://ci.example",
            "https://",
            "https:///x",
            "//ci.example",
            "data:text/html,x",
            "https://ci.example/\u{202e}x",
            "https://ci.example/\"onclick=x",
            "HTTPS://ci.example",
        ] {
            assert_eq!(web_link(text), None, "{text:?}");
        }
    }
}
