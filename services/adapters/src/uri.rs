//! The grammar of URIs and URI references (RFC 3986), as far as single characters decide.

use std::fmt::Write as _;

/// Returns true for a URI reference: characters of RFC 3986, percent-encoded bytes, at most one `#`. The empty
/// reference is accepted.
pub(crate) fn is_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fragments = bytes.iter().filter(|byte| **byte == b'#').count();
    fragments <= 1 && (0..bytes.len()).all(|index| is_allowed(bytes, index))
}

/// Returns true for a URI reference with a scheme.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(is_part)
        && is_reference(text)
}

/// Percent-encodes the bytes that no URI reference may contain.
pub(crate) fn encode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut has_fragment = false;
    let mut encoded = String::with_capacity(bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        let is_second_fragment = *byte == b'#' && has_fragment;
        has_fragment |= *byte == b'#';
        if is_allowed(bytes, index) && !is_second_fragment {
            encoded.push(char::from(*byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Percent-decodes a text once; a `%` without two hexadecimal digits stays. Returns `None` if the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit =
        |index: usize| char::from(*bytes.get(index)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match (*byte, digit(index + 1), digit(index + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                index += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// Returns true if the byte at an index may stand there; a `%` only before two hexadecimal digits.
fn is_allowed(bytes: &[u8], index: usize) -> bool {
    match bytes.get(index) {
        Some(b'%') => {
            let digits = bytes.get(index + 1..index + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        }
        Some(byte) => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
        None => false,
    }
}

/// Returns true for a domain id of specification 0.6: `cdevents:v0:PROVIDER:PROVIDER-ID:NAMESPACE:GROUPS:TYPE:ID`, with
/// groups that neither start nor end with a slash.
pub(crate) fn is_domain_id(text: &str) -> bool {
    let mut parts = text.splitn(8, ':');
    if (parts.next(), parts.next()) != (Some("cdevents"), Some("v0")) {
        return false;
    }
    let rest: Vec<&str> = parts.collect();
    let [_provider, _provider_id, _namespace, groups, kind, id] = rest[..] else { return false };
    let are_groups = !groups.starts_with('/') && !groups.ends_with('/');
    are_groups && !kind.is_empty() && !id.is_empty() && is_reference(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_a_scheme_and_a_reference_need_not() {
        for uri in ["https://ci.example/a?b#c", "urn:user:ada", "cdevents:v0:::::pr:42"] {
            assert!(is_uri(uri) && is_reference(uri), "{uri}");
        }
        for reference in ["", "/staging/tekton/", "git.example/a/b", "a%20b"] {
            assert!(is_reference(reference) && !is_uri(reference), "{reference}");
        }
        for neither in ["a b", "a#b#c", "50%", "%2g", "é", "<a>"] {
            assert!(!is_reference(neither), "{neither}");
        }
    }

    #[test]
    fn encoding_gives_a_reference_and_keeps_one() {
        for text in ["a b", "a#b#c", "50%", "%2g", "é", "<a>", "/ok?x=1#y", "a%20b"] {
            assert!(is_reference(&encode(text)), "{text}");
        }
        assert_eq!(encode("/ok?x=1#y%20"), "/ok?x=1#y%20");
        assert_eq!(encode("my runner"), "my%20runner");
    }

    #[test]
    fn a_domain_id_has_eight_parts() {
        for good in [
            "cdevents:v0:github::shop:search-api:pr:42",
            "cdevents:v0:gitlab:own:shop:platform/search:mr:9",
            "cdevents:v0:::::artifact:pkg%3Aoci%2Fa",
            "cdevents:v0:::::pr:a:b",
        ] {
            assert!(is_domain_id(good), "{good}");
        }
        for bad in [
            "cdevents:v0:github:shop:search-api:pr:42",
            "cdevents:v0:github::shop:search-api::42",
            "cdevents:v0:github::shop:search-api:pr:",
            "cdevents:v0:github::shop:/search-api:pr:42",
            "cdevents:v0:github::shop:search-api/:pr:42",
            "cdevents:v1:github::shop:search-api:pr:42",
            "CDEvents:v0:github::shop:search-api:pr:42",
        ] {
            assert!(!is_domain_id(bad), "{bad}");
        }
    }
}
