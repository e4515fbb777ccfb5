//! Sign-in page.

use askama::Template;

use crate::frame::{Frame, Layout, Section};
use crate::paths::{SIGN_IN, sign_in_with};
use crate::render_error::RenderError;
use crate::shown::{shown, shown_lines};

/// Issuer with which a person can sign in.
#[derive(Debug, Clone, Copy)]
pub struct IssuerLink<'a> {
    /// Name to show.
    pub name: &'a str,
    /// Number of the issuer in the settings, in the path of its link.
    pub number: usize,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    layout: Layout,
    issuers: Vec<Row>,
    action: &'static str,
    /// Submitted as given: the template only escapes it for HTML.
    to: &'a str,
    failure: Option<String>,
}

struct Row {
    name: String,
    href: String,
}

/// Renders the sign-in page: links to the issuers, and a form for an API token. `to` is the path that follows, and
/// `failure` says why a sign-in failed.
///
/// # Errors
/// The template is defective.
pub fn sign_in(issuers: &[IssuerLink<'_>], to: &str, failure: Option<&str>) -> Result<String, RenderError> {
    let row =
        |issuer: &IssuerLink<'_>| Row { name: shown(issuer.name), href: sign_in_with(issuer.number, to) };
    let page = Page {
        layout: Layout::new(&Frame::default(), "Sign in", Section::Other),
        issuers: issuers.iter().map(row).collect(),
        action: SIGN_IN,
        to,
        failure: failure.map(shown_lines),
    };
    Ok(page.render()?)
}
