//! Page of a problem.

use askama::Template;

use crate::frame::{Frame, Layout, Section};
use crate::paths::{Paths, SIGN_IN, sign_in_to};
use crate::render_error::RenderError;
use crate::shown::shown_lines;

/// Status of a request without credentials.
const UNAUTHORIZED: u16 = 401;

/// Form that was refused: what its sender would have to type again.
#[derive(Debug, Clone, Copy)]
pub struct RefusedForm<'a> {
    /// Path of the page with the form.
    pub page: &'a str,
    /// Reason that the sender gave; may be empty.
    pub reason: &'a str,
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Page {
    layout: Layout,
    status: u16,
    detail: String,
    overview: Option<String>,
    sign_in: Option<String>,
    /// Path of the page with the refused form.
    form: Option<String>,
    reason: Option<String>,
}

/// Renders a problem, with a link to the overview, to the sign-in if credentials are missing, and to the page of a form
/// that was refused.
///
/// # Errors
/// The template is defective.
pub fn failure(
    frame: &Frame<'_>,
    status: u16,
    title: &str,
    detail: &str,
    form: Option<RefusedForm<'_>>,
) -> Result<String, RenderError> {
    let page = Page {
        layout: Layout::new(frame, title, Section::Other),
        status,
        detail: shown_lines(detail),
        overview: frame.tenant.map(|tenant| Paths::new(Some(tenant)).overview()),
        sign_in: (status == UNAUTHORIZED)
            .then(|| form.map_or_else(|| SIGN_IN.to_owned(), |form| sign_in_to(form.page))),
        form: form.map(|form| form.page.to_owned()),
        reason: form.filter(|form| !form.reason.is_empty()).map(|form| shown_lines(form.reason)),
    };
    Ok(page.render()?)
}
