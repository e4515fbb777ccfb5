//! Parsed free text: [`ShortText`] is one line (a version, an actor), [`LongText`] may have several (a reason).
//!
//! A short text names something, so two short texts that look the same must be equal. A new one therefore contains no
//! format characters, which are invisible or reorder the text around them. A long text may contain them, since some
//! scripts and emoji need them; [`escape_unprintable`] and [`escape_line`] make them visible.

use std::borrow::Cow;
use std::fmt;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Reason why a text is invalid. The message continues the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text is empty or only white space.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than allowed.
    #[error("has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Length of the text in bytes.
        length: usize,
        /// Maximum length in bytes.
        limit: usize,
    },
    /// A control character, which would break a log line, a table or a digest.
    #[error("contains the control character {0:?}")]
    Control(char),
    /// A format character, which is invisible or reorders the text around it.
    #[error(
        "contains the format character '{}', which is invisible or reorders the text around it",
        .0.escape_unicode()
    )]
    Format(char),
    /// White space at the start or end, which readers cannot see.
    #[error("starts or ends with white space")]
    Padded,
}

/// Returns true for characters that are invisible or reorder the text around them: those of the general category Cf
/// (bidirectional controls, zero width characters, soft hyphen and others), the line and paragraph separators, those
/// that Unicode renders as nothing by default (fillers, variation selectors), the blank Braille pattern, and the
/// noncharacters, which no text contains.
#[must_use]
pub fn is_format(c: char) -> bool {
    use GeneralCategory::{Format, LineSeparator, ParagraphSeparator};
    !c.is_ascii()
        && (matches!(c.general_category(), Format | LineSeparator | ParagraphSeparator)
            || is_default_ignorable(c)
            || c == '\u{2800}'
            || is_noncharacter(c))
}

/// Returns true for the characters with the Unicode property `Default_Ignorable_Code_Point` that are not of the
/// category Cf.
const fn is_default_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2065}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns true for a code point that Unicode permanently reserves for internal use, such as U+FFFE.
#[must_use]
pub const fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || c as u32 & 0xfffe == 0xfffe
}

/// Returns the text with control and format characters escaped as `\u{202e}`, for terminals and logs. Keeps line feeds
/// and tabs.
#[must_use]
pub fn escape_unprintable(text: &str) -> Cow<'_, str> {
    escape(text, |c| (c.is_control() && !matches!(c, '\n' | '\t')) || is_format(c))
}

/// Returns the text as one line: escaped as by [`escape_unprintable`], and with line feeds and tabs escaped, too.
#[must_use]
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() || is_format(c))
}

fn escape(text: &str, is_unprintable: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' if is_unprintable(c) => escaped.extend(c.escape_default()),
            _ if is_unprintable(c) => escaped.extend(c.escape_unicode()),
            _ => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn check(text: &str, limit: usize, is_forbidden: impl Fn(char) -> bool) -> Result<(), TextError> {
    if text.trim().is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > limit {
        return Err(TextError::TooLong { length: text.len(), limit });
    }
    if let Some(c) = text.chars().find(|c| is_forbidden(*c)) {
        return Err(TextError::Control(c));
    }
    Ok(())
}

/// One line of text: 1 to 512 bytes, no control characters, no format characters, no white space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortText(Box<str>);

impl ShortText {
    /// Maximum length in bytes.
    pub const LIMIT: usize = 512;

    /// Parses a new text.
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let parsed = Self::stored(text)?;
        match text.chars().find(|c| is_format(*c)) {
            Some(c) => Err(TextError::Format(c)),
            None => Ok(parsed),
        }
    }

    /// Parses a stored text. It may contain format characters, which were not always rejected.
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn stored(text: &str) -> Result<Self, TextError> {
        check(text, Self::LIMIT, char::is_control)?;
        if text.trim() != text {
            return Err(TextError::Padded);
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text escaped for terminals and logs: see [`escape_unprintable`].
    #[must_use]
    pub fn escaped(&self) -> Cow<'_, str> {
        escape_unprintable(&self.0)
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Free text, such as a reason: 1 to 4,096 bytes. Line breaks, tabs and format characters are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongText(Box<str>);

impl LongText {
    /// Maximum length in bytes.
    pub const LIMIT: usize = 4096;

    /// Parses a text.
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        check(text, Self::LIMIT, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))?;
        Ok(Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text escaped for terminals and logs: see [`escape_unprintable`].
    #[must_use]
    pub fn escaped(&self) -> Cow<'_, str> {
        escape_unprintable(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_rejects_control_characters_and_padding() {
        assert!(ShortText::parse("v948 (rc 1)").is_ok());
        assert_eq!(ShortText::parse(" \t"), Err(TextError::Empty));
        assert_eq!(ShortText::parse("a\tb"), Err(TextError::Control('\t')));
        assert_eq!(ShortText::parse("a "), Err(TextError::Padded));
        assert_eq!(ShortText::parse(&"x".repeat(513)), Err(TextError::TooLong { length: 513, limit: 512 }));
    }

    /// A bidirectional override and isolate, zero width space and joiner, soft hyphen, byte order mark, tag, Arabic
    /// number sign, line and paragraph separator, grapheme joiner, Hangul fillers, Khmer inherent vowel, Mongolian vowel
    /// separator, variation selectors, blank Braille pattern, noncharacters.
    const FORMAT_CHARACTERS: [char; 21] = [
        '\u{202e}',
        '\u{2066}',
        '\u{200b}',
        '\u{200d}',
        '\u{ad}',
        '\u{feff}',
        '\u{e0061}',
        '\u{600}',
        '\u{2028}',
        '\u{2029}',
        '\u{34f}',
        '\u{115f}',
        '\u{3164}',
        '\u{ffa0}',
        '\u{17b4}',
        '\u{180e}',
        '\u{fe0f}',
        '\u{e0100}',
        '\u{2800}',
        '\u{fffe}',
        '\u{10ffff}',
    ];

    #[test]
    fn a_new_short_text_rejects_format_characters_and_a_stored_one_keeps_them() {
        for c in FORMAT_CHARACTERS {
            let text = format!("v9{c}48");
            assert_eq!(ShortText::parse(&text), Err(TextError::Format(c)));
            assert_eq!(ShortText::stored(&text).as_ref().map(ShortText::as_str), Ok(text.as_str()));
        }
        for (text, escaped) in [("v\u{202e}1", "202e"), ("\u{3164}", "3164")] {
            let message = format!(
                "contains the format character '\\u{{{escaped}}}', which is invisible or reorders the text around it"
            );
            assert_eq!(ShortText::parse(text).map_err(|error| error.to_string()), Err(message));
        }
        for visible in ["日本語", "é", "e\u{301}", "नमस्ते", "🚀", "v948\u{a0}rc"] {
            assert!(ShortText::parse(visible).is_ok(), "{visible}");
        }
    }

    #[test]
    fn a_long_text_keeps_format_characters_and_escapes_them_for_display() {
        for c in FORMAT_CHARACTERS {
            let text = LongText::parse(&format!("back{c} to v1")).expect("a valid text");
            assert_eq!(text.as_str(), format!("back{c} to v1"));
            assert_eq!(text.escaped(), format!("back\\u{{{:x}}} to v1", u32::from(c)));
        }
    }

    #[test]
    fn only_unprintable_characters_are_escaped() {
        assert!(matches!(escape_unprintable("first\n\tsecond: C:\\ \"é\""), Cow::Borrowed(_)));
        assert_eq!(escape_unprintable("a\rb\u{1b}[31m\u{9b}\u{7f}"), "a\\rb\\u{1b}[31m\\u{9b}\\u{7f}");
        assert_eq!(ShortText::stored("v\u{200b}1").expect("a valid text").escaped(), "v\\u{200b}1");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert!(matches!(escape_line("C:\\ \"é\""), Cow::Borrowed(_)));
        assert_eq!(escape_line("a\nb\tc\u{85}\u{2028}"), "a\\nb\\tc\\u{85}\\u{2028}");
    }

    #[test]
    fn a_long_text_may_have_several_lines() {
        assert!(LongText::parse("first\n\tsecond").is_ok());
        assert_eq!(LongText::parse("bell\u{7}"), Err(TextError::Control('\u{7}')));
    }
}
