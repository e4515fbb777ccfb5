//! Request of a page about a tenant's ledger.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Html;
use chrono::{DateTime, Utc};
use ledger_domain::{Principal, PrincipalKind, TenantName};
use ledger_pages::{CommandLine, Frame, RenderError};
use tracing::error;
use uuid::Uuid;

use super::ask::PageApi;
use super::problems::has_session;
use crate::App;
use crate::access::Sent;
use crate::problem::{Kind, Problem};

/// Parameters that only make a page wait: they are left out of the path of the API that it shows.
const WAITS: [&str; 2] = ["wait_for", "wait_ms"];

/// Request of a page about a tenant's ledger, with its sender.
pub(super) struct TenantPage {
    app: Arc<App>,
    pub(super) api: PageApi,
    pub(super) tenant: TenantName,
    sender: Option<Arc<Principal>>,
    has_session: bool,
    uri: Uri,
}

impl FromRequestParts<Arc<App>> for TenantPage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = RawPathParams::from_request_parts(parts, app).await;
        let path = path.map_err(|error| Problem::new(Kind::PathNotFound, error))?;
        let named = path.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value);
        let tenant = TenantName::parse_any(named.unwrap_or_default());
        Ok(Self {
            app: Arc::clone(app),
            api: PageApi::from_request_parts(parts, app).await?,
            tenant: tenant.map_err(|error| Problem::parameter("tenant", error))?,
            sender: parts.extensions.get::<Sent>().and_then(|Sent(sender)| sender.clone()),
            has_session: has_session(&parts.headers),
            uri: parts.uri.clone(),
        })
    }
}

impl TenantPage {
    pub(super) const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Returns the path of the API for a part of the tenant's ledger, such as `/overview`.
    pub(super) fn api_path(&self, part: &str) -> String {
        format!("/v1/tenants/{}{part}", self.tenant)
    }

    /// Returns the path of a page of the tenant.
    pub(super) fn page_path(&self, part: &str) -> String {
        format!("/t/{}{part}", self.tenant)
    }

    /// Returns what follows the tenant in the path of this page, encoded as it was sent. The API has the same resource
    /// there.
    pub(super) fn part(&self) -> &str {
        let below = self.uri.path().strip_prefix("/t/").unwrap_or_default();
        below.find('/').map_or("", |end| &below[end..])
    }

    /// Returns the path of the API for a part of the tenant's ledger, with the parameters of this page except those that
    /// are empty: fields of a form that were not filled in.
    pub(super) fn api_request(&self, part: &str) -> String {
        with_query(self.api_path(part), self.parameters(|_| true))
    }

    /// Returns the path of the API to show on this page: without [`WAITS`].
    pub(super) fn shown_api_request(&self, part: &str) -> String {
        with_query(self.api_path(part), self.parameters(|name| !WAITS.contains(&name)))
    }

    fn parameters(&self, is_kept: impl Fn(&str) -> bool) -> String {
        let pairs = self.uri.query().unwrap_or_default().split('&');
        let kept = pairs.filter(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((*pair, ""));
            !value.is_empty() && is_kept(name)
        });
        kept.collect::<Vec<_>>().join("&")
    }

    /// Returns the values of a parameter of this page that are not empty.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&self.uri).map(|Query(pairs)| pairs);
        let pairs = pairs.unwrap_or_default().into_iter();
        pairs.filter(|(given, value)| given == name && !value.is_empty()).map(|(_, value)| value).collect()
    }

    /// Returns the value of a parameter of this page; `None` if it is empty.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.values(name).into_iter().next()
    }

    /// Returns the authenticated sender.
    ///
    /// # Errors
    /// The service does not authenticate its clients.
    pub(super) fn sender(&self) -> Result<&Principal, Problem> {
        self.sender.as_deref().ok_or_else(|| {
            let detail = "the service does not authenticate its clients, so a page cannot record who decides; use the \
                          command line: release-ledger approve, reject, or rollback approve";
            Problem::new(Kind::AuthenticationOff, detail)
        })
    }

    /// Returns a new event id for the forms of the page; `None` without a sender, and for workloads, which do not decide.
    #[expect(
        clippy::disallowed_methods,
        reason = "generates the id of the event that a form of the page records"
    )]
    pub(super) fn new_event_id(&self) -> Option<String> {
        let sender = self.sender.as_deref()?;
        (sender.kind != PrincipalKind::Workload).then(|| Uuid::now_v7().to_string())
    }

    /// Returns the current time.
    ///
    /// # Errors
    /// The process does not serve the tenant now.
    pub(super) fn now(&self) -> Result<DateTime<Utc>, Problem> {
        let ledger = self.app.ledgers.get(&self.tenant).ok_or_else(|| {
            let detail = format!("the ledger of tenant {} is not open; retry soon", self.tenant);
            Problem::new(Kind::AccessUnavailable, detail)
        })?;
        Ok((ledger.clock)())
    }

    /// Returns the surroundings of the page.
    pub(super) fn frame<'a>(
        &'a self,
        api_path: Option<&'a str>,
        command: Option<&'a CommandLine>,
    ) -> Frame<'a> {
        Frame {
            tenant: Some(self.tenant.as_str()),
            reader: self.sender.as_deref().map(|sender| sender.name.as_str()),
            can_sign_out: self.has_session,
            api_path,
            command: command.map(CommandLine::as_str),
            query: self.uri.query().unwrap_or_default(),
        }
    }
}

fn with_query(path: String, query: String) -> String {
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// Returns a rendered page as HTML.
pub(crate) fn html(rendered: Result<String, RenderError>) -> Result<Html<String>, Problem> {
    rendered.map(Html).map_err(|error| {
        error!(%error, "page not rendered");
        let detail =
            "the page cannot be rendered; use the command line, and see the service log for the cause";
        Problem::new(Kind::Internal, detail)
    })
}
