//! Form of the sign-in.

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::body::read;
use crate::budget::FREE_BYTES;
use crate::problem::{Kind, Problem};
use crate::{App, Shared};

/// Maximum size of a form, in bytes. Strangers send it: it must not use up the budget of the bodies.
const FORM_LIMIT: usize = FREE_BYTES;

/// Reads the form in the body of a request. Errors do not quote it: it has a secret.
pub(super) async fn read_form<T: DeserializeOwned>(app: &Shared, request: Request) -> Result<T, Problem> {
    let app: &App = app;
    let (head, body) = request.into_parts();
    let body = read(&app.bounds.bodies, &head.headers, body, FORM_LIMIT).await?;
    let request = Request::from_parts(head, Body::from(body.bytes.clone()));
    match Form::<T>::from_request(request, &()).await {
        Ok(Form(form)) => Ok(form),
        Err(error) if error.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Err(Problem::new(Kind::UnsupportedMediaType, "send application/x-www-form-urlencoded"))
        }
        Err(_) => {
            Err(Problem::new(Kind::InvalidBody, "the form must have the fields token and to, each once"))
        }
    }
}
