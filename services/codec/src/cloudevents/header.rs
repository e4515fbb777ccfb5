//! Decodes attributes from HTTP headers: CloudEvents HTTP protocol binding 1.0.2, section 3.1.3.2.

/// The reason why a header's value cannot be decoded, as a predicate of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A double-quoted string is not closed, or text follows it.
    #[error("starts with a double quote but is not one complete quoted string")]
    Quotes,
    /// The percent-decoded bytes are not UTF-8.
    #[error("is not UTF-8 after percent-decoding")]
    Encoding,
}

/// Decodes the value of a `ce-` header: removes enclosing double quotes (RFC 7230, section 3.2.6), then percent-decodes
/// it exactly once.
///
/// A quote that is not at the start is an ordinary character, and so is a percent sign without two hexadecimal digits:
/// earlier versions of the binding allow both.
///
/// # Errors
/// The quoted string is malformed, or the decoded bytes are not UTF-8.
pub fn decode_header(value: &str) -> Result<String, HeaderError> {
    let unquoted = match value.strip_prefix('"') {
        Some(rest) => unquote(rest).ok_or(HeaderError::Quotes)?,
        None => value.to_owned(),
    };
    let decoded = percent_encoding::percent_decode_str(&unquoted).decode_utf8();
    decoded.map(Into::into).map_err(|_| HeaderError::Encoding)
}

/// Unescapes the rest of a quoted string after its opening quote; `None` unless the closing quote is the last
/// character.
fn unquote(rest: &str) -> Option<String> {
    let mut text = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_27_a_value_is_percent_decoded_exactly_once() {
        // The example from the specification.
        assert_eq!(decode_header("Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(), Ok("Euro € 😀"));
        assert_eq!(decode_header("%25%32%30").as_deref(), Ok("%20"));
        assert_eq!(decode_header("%e2%82%ac%2541").as_deref(), Ok("€%41"));
        assert_eq!(decode_header("100%").as_deref(), Ok("100%"));
        assert_eq!(decode_header("a+b").as_deref(), Ok("a+b"));
        for not_utf_8 in ["%C0%A0", "%ff", "%e2%82", "%ED%A0%80"] {
            assert_eq!(decode_header(not_utf_8), Err(HeaderError::Encoding), "{not_utf_8}");
        }
    }

    #[test]
    fn rule_27_a_quoted_value_is_unquoted_before_it_is_percent_decoded() {
        assert_eq!(decode_header(r#""run 4711""#).as_deref(), Ok("run 4711"));
        assert_eq!(decode_header(r#""a \"b\" \\ c""#).as_deref(), Ok(r#"a "b" \ c"#));
        assert_eq!(decode_header(r#""a%22b""#).as_deref(), Ok(r#"a"b"#));
        assert_eq!(decode_header("%22a%22").as_deref(), Ok(r#""a""#));
        assert_eq!(decode_header(r#""\%41""#).as_deref(), Ok("A"));
        assert_eq!(decode_header(r#""""#).as_deref(), Ok(""));
        assert_eq!(decode_header(r#"a "b""#).as_deref(), Ok(r#"a "b""#));
        assert_eq!(decode_header(r"a\b").as_deref(), Ok(r"a\b"));
        for malformed in [r#"""#, r#""a"#, r#""a\""#, r#""a" b"#, r#""a""b""#] {
            assert_eq!(decode_header(malformed), Err(HeaderError::Quotes), "{malformed}");
        }
    }
}
