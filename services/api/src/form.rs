//! Forms of pages, in the bodies of requests.

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::Shared;
use crate::body::read;
use crate::problem::{Kind, Problem};

/// Reads the form in the body of a request, of at most `limit` bytes. `fields` lists its fields for the error of another
/// form, which does not quote the body: a form may contain a secret.
///
/// # Errors
/// The body is too large, is not a form, or has other fields.
pub(crate) async fn read_form<T: DeserializeOwned>(
    app: &Shared,
    request: Request,
    limit: usize,
    fields: &str,
) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let body = read(&app.bounds.bodies, &head.headers, body, limit).await?;
    let request = Request::from_parts(head, Body::from(body.bytes.clone()));
    match Form::<T>::from_request(request, &()).await {
        Ok(Form(form)) => Ok(form),
        Err(error) if error.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Err(Problem::new(Kind::UnsupportedMediaType, "send application/x-www-form-urlencoded"))
        }
        Err(_) => {
            let detail =
                format!("the form has the fields {fields}, each once; load the page and send its form");
            Err(Problem::new(Kind::InvalidBody, detail))
        }
    }
}
