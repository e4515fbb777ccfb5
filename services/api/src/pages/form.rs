//! Forms that pages send.

use std::sync::Arc;

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::App;
use crate::body::read;
use crate::problem::{Kind, Problem};

/// Maximum size of a form, in bytes.
const FORM_LIMIT: usize = 64 << 10;

/// What the sender of a refused form typed, and the path of the page with the form: an extension of the answer.
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

/// Reads the form in the body of a request.
pub(super) async fn read_form<T: DeserializeOwned>(app: &Arc<App>, request: Request) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let body = read(&app.bounds.bodies, &head.headers, body, FORM_LIMIT).await?;
    let request = Request::from_parts(head, Body::from(body.bytes.clone()));
    match Form::<T>::from_request(request, &()).await {
        Ok(Form(form)) => Ok(form),
        Err(error) if error.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Err(Problem::new(Kind::UnsupportedMediaType, "send application/x-www-form-urlencoded"))
        }
        Err(error) => Err(Problem::new(Kind::InvalidBody, error.body_text())),
    }
}

/// Parses the id that a page gave to its form: it becomes the id of the event, so that the form is recorded once.
pub(super) fn parse_request(text: &str) -> Result<Uuid, Problem> {
    let invalid = |_| Problem::parameter("request", "must be the UUID of the page; load the page again");
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
    fn a_request_is_a_uuid() {
        assert!(parse_request("0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c").is_ok());
        for wrong in ["", "1", "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2cc"] {
            assert!(parse_request(wrong).is_err(), "{wrong}");
        }
    }
}
