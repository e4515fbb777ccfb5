//! Surroundings of a page's content.

use crate::paths::{Paths, SIGN_OUT};
use crate::shell::curl;
use crate::shown::shown;
use crate::style::{icon_path, style_path};

/// Surroundings of a page's content: tenant, reader, and the same answer by other means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame<'a> {
    /// Tenant of the page; `None` for a page of no tenant.
    pub tenant: Option<&'a str>,
    /// Name of the authenticated reader; `None` without authentication.
    pub reader: Option<&'a str>,
    /// True if the reader has a session that a sign-out ends.
    pub can_sign_out: bool,
    /// Path and query of the API with the same answer, such as `/v1/tenants/default/overview`.
    pub api_path: Option<&'a str>,
    /// Command line with the same answer, such as `release-ledger overview`.
    pub command: Option<&'a str>,
    /// Query of the page, encoded as it was sent: the next page of a list has the same filters.
    pub query: &'a str,
}

/// Section of the pages, marked in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// The overview.
    Overview,
    /// Rollbacks, as a list.
    Rollbacks,
    /// Approvals.
    Approvals,
    /// Any other page.
    Other,
}

/// Values of the template `layout.html`.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) title: String,
    pub(crate) style: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) tenant: Option<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) reader: Option<String>,
    pub(crate) sign_out: Option<&'static str>,
    /// Ledger position that the page reflects.
    pub(crate) position: Option<u64>,
    pub(crate) curl: Option<String>,
    pub(crate) command: Option<String>,
}

/// Link of the navigation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) href: String,
    pub(crate) name: &'static str,
    pub(crate) is_current: bool,
}

impl Layout {
    /// Returns the surroundings of a page with this title, which is also its heading.
    pub(crate) fn new(frame: &Frame<'_>, title: &str, section: Section) -> Self {
        Self {
            title: shown(title),
            style: style_path(),
            icon: icon_path(),
            tenant: frame.tenant.map(shown),
            links: frame.tenant.map_or_else(Vec::new, |tenant| links(tenant, section)),
            reader: frame.reader.map(shown),
            sign_out: frame.can_sign_out.then_some(SIGN_OUT),
            position: None,
            curl: frame.api_path.map(|path| shown(&curl(path))),
            command: frame.command.map(shown),
        }
    }

    /// Sets the ledger position that the page reflects.
    pub(crate) fn at(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }
}

fn links(tenant: &str, section: Section) -> Vec<Link> {
    let paths = Paths::new(Some(tenant));
    let link = |href, name, of| Link { href, name, is_current: section == of };
    vec![
        link(paths.overview(), "Overview", Section::Overview),
        link(paths.rollbacks(), "Rollbacks", Section::Rollbacks),
        link(paths.new_approval(), "Approvals", Section::Approvals),
    ]
}
