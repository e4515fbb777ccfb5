//! Page of a problem.

use askama::Template;

use crate::frame::{Frame, Layout, Section};
use crate::paths::{Paths, SIGN_IN};
use crate::render_error::RenderError;
use crate::shown::shown_lines;

/// Status of a request without credentials.
const UNAUTHORIZED: u16 = 401;

#[derive(Template)]
#[template(path = "failure.html")]
struct Page {
    layout: Layout,
    status: u16,
    detail: String,
    overview: Option<String>,
    sign_in: Option<&'static str>,
}

/// Renders a problem, with a link to the overview, and to the sign-in if credentials are missing.
///
/// # Errors
/// The template is defective.
pub fn failure(frame: &Frame<'_>, status: u16, title: &str, detail: &str) -> Result<String, RenderError> {
    let page = Page {
        layout: Layout::new(frame, title, Section::Other),
        status,
        detail: shown_lines(detail),
        overview: frame.tenant.map(|tenant| Paths::new(Some(tenant)).overview()),
        sign_in: (status == UNAUTHORIZED).then_some(SIGN_IN),
    };
    Ok(page.render()?)
}
