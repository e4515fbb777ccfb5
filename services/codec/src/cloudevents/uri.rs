//! The grammar of URI references: RFC 3986, as far as single characters decide.

/// Returns true if a text consists of the characters of a URI reference: unreserved and reserved ones, percent-encoded
/// bytes, and at most one `#`. The empty reference is not accepted.
pub(super) fn is_uri_reference(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut fragments = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut is_hex_digit = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                if !(is_hex_digit() && is_hex_digit()) {
                    return false;
                }
            }
            b'#' => fragments += 1,
            _ if byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=".contains(&byte) => {}
            _ => return false,
        }
    }
    !text.is_empty() && fragments <= 1
}

/// Returns true if a text is a URI reference with a scheme.
pub(super) fn is_uri(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(is_part)
        && is_uri_reference(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_reference_has_only_the_characters_of_rfc_3986() {
        for good in [
            "release-ledger-cli",
            "/jobs/1?a=b#c",
            "urn:uuid:6d0e4e10",
            "http://[::1]/",
            "mailto:a@b",
            "a%20b",
        ] {
            assert!(is_uri_reference(good), "{good}");
        }
        assert!(is_uri("https://example.com/s.json") && is_uri("a+b:"));
        assert!(!is_uri("relative") && !is_uri("/a:b") && !is_uri("1a:b") && !is_uri("a:b c"));
        for bad in
            ["", "a b", "a\"b", "<a>", "a#b#c", "50%", "%2", "%2g", "é", "a\\b", "{a}", "a^b", "a|b", "`"]
        {
            assert!(!is_uri_reference(bad), "{bad}");
        }
    }
}
