//! Problems of the service, `application/problem+json`, printed as one line.

use std::fmt;

use serde::Deserialize;

/// The prefix of the types of all problems of a ledger.
const URN: &str = "urn:release-ledger:problem:";

/// A problem (RFC 9457), limited to the members that a person reads.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<ProblemError>,
}

#[derive(Debug, Clone, Deserialize)]
struct ProblemError {
    pointer: Option<String>,
}

impl Problem {
    /// Returns true if the problem is of this kind, given by the last part of its URN.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(URN) == Some(kind)
    }

    /// Returns true if the problem comes from a ledger, and not from something in between that uses problems
    /// as well.
    #[must_use]
    pub fn is_from_ledger(&self) -> bool {
        self.kind.starts_with(URN)
    }

    /// The description of this particular case.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    /// Writes `title: detail`, and the pointers into the event that the detail does not name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        let pointers = self.errors.iter().filter_map(|error| error.pointer.as_deref());
        for pointer in pointers.filter(|pointer| !self.detail.contains(pointer)) {
            write!(f, " (at {pointer})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        serde_json::from_str::<Problem>(json).expect("a problem").to_string()
    }

    #[test]
    fn a_problem_is_one_line_with_its_pointer() {
        assert_eq!(
            text(r#"{"type":"x","title":"There is nothing here","status":404}"#),
            "There is nothing here"
        );
        assert_eq!(
            text(
                r#"{"title":"Bad","detail":"/data/service: is required","errors":[{"pointer":"/data/service","detail":"is required"}]}"#
            ),
            "Bad: /data/service: is required"
        );
        assert_eq!(
            text(
                r#"{"title":"Bad","detail":"wrong","errors":[{"pointer":"/id","detail":"x"},{"parameter":"p","detail":"y"}]}"#
            ),
            "Bad: wrong (at /id)"
        );
    }
}
