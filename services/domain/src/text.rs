//! Parsed free text: one line (a version, an actor) or prose (a reason).

use std::fmt;

/// Why a text was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text is empty or only white space.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than allowed.
    #[error("has {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes of the text.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A control character, which would break a log line, a table or a digest.
    #[error("has the control character {0:?}")]
    Control(char),
    /// White space at the start or end, which people do not see.
    #[error("starts or ends with white space")]
    Padded,
}

fn check(text: &str, limit: usize, control: impl Fn(char) -> bool) -> Result<(), TextError> {
    if text.trim().is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > limit {
        return Err(TextError::TooLong { length: text.len(), limit });
    }
    if let Some(c) = text.chars().find(|c| control(*c)) {
        return Err(TextError::Control(c));
    }
    Ok(())
}

/// One line of text: 1 to 512 bytes, no control characters, no white space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(Box<str>);

impl Line {
    /// Bytes that a line has at most.
    pub const LIMIT: usize = 512;

    /// Parses a line.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        check(text, Self::LIMIT, char::is_control)?;
        if text.trim() != text {
            return Err(TextError::Padded);
        }
        Ok(Self(text.into()))
    }

    /// The line as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's words: 1 to 4,096 bytes; line breaks and tabs are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prose(Box<str>);

impl Prose {
    /// Bytes that prose has at most.
    pub const LIMIT: usize = 4096;

    /// Parses prose.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        check(text, Self::LIMIT, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))?;
        Ok(Self(text.into()))
    }

    /// The prose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_no_padding() {
        assert!(Line::parse("v948 (rc 1)").is_ok());
        assert_eq!(Line::parse(" \t"), Err(TextError::Empty));
        assert_eq!(Line::parse("a\tb"), Err(TextError::Control('\t')));
        assert_eq!(Line::parse("a "), Err(TextError::Padded));
        assert_eq!(Line::parse(&"x".repeat(513)), Err(TextError::TooLong { length: 513, limit: 512 }));
    }

    #[test]
    fn prose_may_have_several_lines() {
        assert!(Prose::parse("first\n\tsecond").is_ok());
        assert_eq!(Prose::parse("bell\u{7}"), Err(TextError::Control('\u{7}')));
    }
}
