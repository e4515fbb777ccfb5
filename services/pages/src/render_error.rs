//! Failure to render a page.

/// Failure to render a page: a defect of its template.
#[derive(Debug, thiserror::Error)]
#[error("cannot render the page; report this as a defect")]
pub struct RenderError(#[from] askama::Error);
