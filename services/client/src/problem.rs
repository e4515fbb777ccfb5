//! What the service says when something is wrong: `application/problem+json`, as one line.

use std::fmt;

use serde::Deserialize;

/// How the types of the service's problems begin.
const URN: &str = "urn:release-ledger:problem:";

/// A problem, as RFC 9457 says, as far as a person reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Clone, Deserialize)]
struct Fault {
    pointer: Option<String>,
}

impl Problem {
    /// Whether it is of this kind: the last word of its URN.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(URN) == Some(kind)
    }

    /// Whether a ledger says it, and not something else on the way that speaks of problems as well.
    #[must_use]
    pub fn is_a_ledgers(&self) -> bool {
        self.kind.starts_with(URN)
    }

    /// What happened this time.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    /// `title: detail`, and the places in the event that the detail does not name itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        let places = self.errors.iter().filter_map(|fault| fault.pointer.as_deref());
        for place in places.filter(|place| !self.detail.contains(place)) {
            write!(f, " (at {place})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> String {
        serde_json::from_str::<Problem>(json).expect("a problem").to_string()
    }

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        assert_eq!(
            line(r#"{"type":"x","title":"There is nothing here","status":404}"#),
            "There is nothing here"
        );
        assert_eq!(
            line(
                r#"{"title":"Bad","detail":"/data/service: is required","errors":[{"pointer":"/data/service","detail":"is required"}]}"#
            ),
            "Bad: /data/service: is required"
        );
        assert_eq!(
            line(
                r#"{"title":"Bad","detail":"wrong","errors":[{"pointer":"/id","detail":"x"},{"parameter":"p","detail":"y"}]}"#
            ),
            "Bad: wrong (at /id)"
        );
    }
}
