//! Invalid arguments that are found after the command line is parsed, and their exit status.

use super::absent::AbsentCommand;
use super::address::AddressError;
use super::connection;

/// The value of an argument, or of a variable in its place, is invalid. The text names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidArgument(String);

impl InvalidArgument {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Returns the error for an invalid argument, which the text names.
pub(super) fn invalid(text: impl Into<String>) -> anyhow::Error {
    InvalidArgument::new(text).into()
}

/// Returns true for an error in the arguments, whether the command found it or the service did, and if this build of the
/// program does not have the command.
#[must_use]
pub fn is_invalid_argument(error: &anyhow::Error) -> bool {
    let of_service = error.downcast_ref::<connection::Error>();
    error.is::<InvalidArgument>()
        || error.is::<AddressError>()
        || error.is::<AbsentCommand>()
        || of_service.is_some_and(|error| error.problem("invalid-parameter").is_some())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use reqwest::StatusCode;

    use super::*;

    fn problem(kind: &str) -> anyhow::Error {
        let problem =
            format!(r#"{{"type":"urn:release-ledger:problem:{kind}","title":"Bad","detail":"at: wrong"}}"#);
        connection::Error::Problem {
            url: "http://127.0.0.1:1/".parse().expect("a URL"),
            status: StatusCode::BAD_REQUEST,
            problem: serde_json::from_str(&problem).expect("a problem"),
        }
        .into()
    }

    #[test]
    fn an_invalid_argument_is_found_under_any_context_and_in_answers_of_the_service() {
        let failed = anyhow!("cannot read");
        assert!(!is_invalid_argument(&failed) && !is_invalid_argument(&problem("invalid-json")));
        for error in [
            invalid("--version is missing"),
            invalid("--version is missing").context("invalid event"),
            AbsentCommand::GitOps.into(),
            problem("invalid-parameter"),
            problem("invalid-parameter").context("no state"),
        ] {
            assert!(is_invalid_argument(&error), "{error:#}");
        }
        let none: Option<u8> = None;
        let missing = none.ok_or_else(|| InvalidArgument::new("--by is missing")).context("no author");
        assert!(is_invalid_argument(&missing.expect_err("an error")));
    }
}
