//! List of tenants.

use askama::Template;

use crate::frame::{Frame, Layout, Section};
use crate::paths::Paths;
use crate::render_error::RenderError;
use crate::shown::shown;

#[derive(Template)]
#[template(path = "tenants.html")]
struct Page {
    layout: Layout,
    tenants: Vec<Row>,
}

struct Row {
    name: String,
    href: String,
}

/// Renders the list of the tenants that the reader may see, in the given order.
///
/// # Errors
/// The template is defective.
pub fn tenants(frame: &Frame<'_>, tenants: &[&str]) -> Result<String, RenderError> {
    let row = |&name: &&str| Row { name: shown(name), href: Paths::new(Some(name)).overview() };
    let page = Page {
        layout: Layout::new(frame, "Tenants", Section::Other),
        tenants: tenants.iter().map(row).collect(),
    };
    Ok(page.render()?)
}
