//! Fields of the forms of pages.

use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::problem::Problem;

/// Input of the sender of a refused form, and the path of the page with the form: an extension of the answer.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) page: String,
    pub(super) reason: String,
}

/// Problem of a form.
#[derive(Debug)]
pub(super) struct FormProblem {
    problem: Problem,
    /// `None` if the form was not read.
    typed: Option<Typed>,
}

impl Typed {
    /// Returns the problem of the form.
    pub(super) fn with(self, problem: Problem) -> FormProblem {
        FormProblem { problem, typed: Some(self) }
    }
}

impl From<Problem> for FormProblem {
    fn from(problem: Problem) -> Self {
        Self { problem, typed: None }
    }
}

impl IntoResponse for FormProblem {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        if let Some(typed) = self.typed {
            response.extensions_mut().insert(typed);
        }
        response
    }
}

/// Parses the event id that a page put into its form, so that a form that is sent twice is recorded once.
pub(super) fn parse_event_id(text: &str) -> Result<Uuid, Problem> {
    let invalid = |_| Problem::parameter("event_id", "must be the UUID of the page; load the page again");
    Uuid::try_parse(text).map_err(invalid)
}

/// Returns the reason that a form gives, if it gives one. Browsers send line ends as CR LF.
pub(super) fn reason(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_trimmed_and_has_the_line_ends_of_other_clients() {
        assert_eq!(reason(" It leaks.\r\nMemory.\r\n"), Some("It leaks.\nMemory.".to_owned()));
        assert_eq!(reason(" \r\n"), None);
    }

    #[test]
    fn an_event_id_is_a_uuid() {
        assert!(parse_event_id("0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c").is_ok());
        for wrong in ["", "1", "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2cc"] {
            assert!(parse_event_id(wrong).is_err(), "{wrong}");
        }
    }
}
