//! Patterns of names and of claims.

use std::fmt;

/// A text, or a pattern of texts: `*` stands for any number of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

/// A text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is empty.
    #[error("a pattern must not be empty")]
    Empty,
    /// It is too long.
    #[error("a pattern has at most {MAX_LENGTH} bytes; this one has {0}")]
    TooLong(usize),
    /// It contains a control character.
    #[error("a pattern must not contain the control character {0:?}")]
    Control(char),
}

/// Maximum length of a pattern, in bytes: that of a short text.
const MAX_LENGTH: usize = 512;

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The text is empty, too long, or contains a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(InvalidPattern::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidPattern::Control(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the pattern of every text.
    #[must_use]
    pub fn any() -> Self {
        Self("*".into())
    }

    /// Returns true if every text matches.
    #[must_use]
    pub fn matches_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Returns true if a text matches. Letters match in their case only.
    ///
    /// The time is at most proportional to the product of both lengths.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // The first place of each part leaves most of the text to those after it.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Returns the text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        for (text, matching, others) in [
            ("staging", vec!["staging"], vec!["stagin", "staging2", "Staging", ""]),
            ("*", vec!["", "production"], vec![]),
            ("prod*", vec!["prod", "production"], vec!["preprod"]),
            ("*-eu", vec!["-eu", "prod-eu"], vec!["prod-eu-1"]),
            ("a*b*c", vec!["abc", "a-b-b-c", "abcbc"], vec!["acb", "ab", "abcd"]),
            ("a*a", vec!["aa", "aba"], vec!["a"]),
            ("**", vec!["", "x"], vec![]),
            (
                "org/app/.github/workflows/*@refs/heads/main",
                vec!["org/app/.github/workflows/d.yml@refs/heads/main"],
                vec!["org/app/.github/workflows/d.yml@refs/heads/main2"],
            ),
        ] {
            for matched in matching {
                assert!(pattern(text).matches(matched), "{text} {matched}");
            }
            for other in others {
                assert!(!pattern(text).matches(other), "{text} {other}");
            }
        }
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        assert_eq!(Pattern::parse(""), Err(InvalidPattern::Empty));
        assert_eq!(Pattern::parse("a\nb"), Err(InvalidPattern::Control('\n')));
        assert_eq!(Pattern::parse(&"x".repeat(513)), Err(InvalidPattern::TooLong(513)));
    }

    /// Matches character by character, trying every length for a star.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skipped| naive(rest, &text[skipped..])),
            Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_a_naive_matcher_does(text in "[ab*]{1,7}", word in "[ab]{0,9}") {
            let (chars, letters): (Vec<char>, Vec<char>) = (text.chars().collect(), word.chars().collect());
            prop_assert_eq!(pattern(&text).matches(&word), naive(&chars, &letters));
        }
    }
}
