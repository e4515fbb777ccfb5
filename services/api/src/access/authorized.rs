//! Extraction of a request's ledger, if its sender may do what the route does.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use ledger_access::{Question, Scope};
use ledger_domain::access::{Verb, VerbSet};
use ledger_domain::{EnvironmentName, Family, Payload, Principal, ServiceName, TenantName};
use serde::Deserialize;

use super::{Authentication, Authenticator, Sent, forbidden};
use crate::App;
use crate::problem::{Kind, Problem};
use crate::rates::{Meter, Metered};
use crate::request_stats::RequestStats;
use crate::tenant::TenantLedger;

/// Requirement of a route.
pub(crate) trait Requirement: Send + Sync + 'static {
    /// Verb.
    const VERB: Verb;
    /// Part of the ledger that the verb must be granted for.
    const EXTENT: Extent;
}

/// Part of a ledger that a request concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The environment in the path or in the query; all of them if there is none.
    Environment,
    /// Like [`Extent::Environment`], and the service in the query; all services if there is none.
    Lane,
    /// The part that the body or the answer concerns. The handler checks it with [`Tenancy::check`].
    Content,
}

macro_rules! requirements {
    ($($(#[$doc:meta])* $name:ident = $verb:ident $extent:ident;)+) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}

        impl Requirement for $name {
            const VERB: Verb = Verb::$verb;
            const EXTENT: Extent = Extent::$extent;
        }
    )+};
}

requirements! {
    /// Reads of one environment, or of all.
    ReadEnvironment = Read Environment;
    /// Reads of the history, which a service may limit.
    ReadHistory = Read Lane;
    /// Reads of what the handler finds.
    ReadSome = Read Content;
    /// Questions to the gate.
    AskGate = Gate Content;
    /// Requests of rollbacks.
    StartRollback = Rollback Content;
    /// Events: each needs the verb of its kind.
    SendEvents = EmitDeploy Content;
    /// Messages that could not be understood, of all environments.
    HandleQuarantine = Hooks Environment;
    /// Subscriptions, which deliver entries of all environments.
    ManageSubscriptions = Subscribe Environment;
}

/// The ledger of a request whose sender may do what the type states.
pub(crate) struct Authorized<R>(TenantLedger, PhantomData<R>);

impl<R> Authorized<R> {
    pub(crate) fn into_ledger(self) -> TenantLedger {
        self.0
    }
}

impl<R> Deref for Authorized<R> {
    type Target = TenantLedger;

    fn deref(&self) -> &TenantLedger {
        &self.0
    }
}

#[derive(Deserialize)]
struct ScopeQuery {
    environment: Option<String>,
    service: Option<String>,
}

impl<R: Requirement> FromRequestParts<Arc<App>> for Authorized<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let tenancy = Tenancy::of(parts, app).await?;
        let path = path_params(parts, app).await?;
        let in_path = path.iter().find(|(name, _)| *name == "environment").map(|(_, value)| value);
        // An invalid query is the handler's to reject; until then it names nothing.
        let query = Query::<ScopeQuery>::from_request_parts(parts, app).await.ok().map(|Query(query)| query);
        let (in_query, service) = query.map_or((None, None), |query| (query.environment, query.service));
        let service = service.as_deref().filter(|_| R::EXTENT == Extent::Lane);
        match R::EXTENT {
            Extent::Content => tenancy.check_known()?,
            Extent::Environment | Extent::Lane => tenancy.ask(&Question {
                verb: R::VERB,
                tenant: &tenancy.tenant,
                environment: in_path.or(in_query.as_deref()).map_or(Scope::All, Scope::Named),
                service: service.map_or(Scope::All, Scope::Named),
            })?,
        }
        let ledger = app.ledgers.get(&tenancy.tenant).ok_or_else(|| not_open(app, &tenancy.tenant))?;
        Ok(Self(TenantLedger::new(Arc::clone(app), ledger, tenancy), PhantomData))
    }
}

/// Checks that a sender may administrate access.
pub(super) fn require_admin(authenticator: &Authenticator, Sent(sender): &Sent) -> Result<(), Problem> {
    let sender = sender.as_deref().ok_or_else(unauthenticated)?;
    let admin = TenantName::admin();
    let question = Question::everything(Verb::Admin, &admin);
    authenticator.decide(sender, &question)?.map_err(|_| forbidden(sender, question))
}

/// Checks that a sender may read everything of every tenant.
pub(crate) fn check_reads_everything(app: &App, Sent(sender): &Sent) -> Result<(), Problem> {
    let Authentication::Required(authenticator) = &app.authentication else { return Ok(()) };
    let sender = sender.as_deref().ok_or_else(unauthenticated)?;
    app.ledgers.all().keys().try_for_each(|tenant| {
        let question = Question::everything(Verb::Read, tenant);
        authenticator.decide(sender, &question)?.map_err(|_| {
            let detail = "metrics name every tenant: they need a grant of read for tenant *, environment * and \
                          service *";
            Problem::new(Kind::Forbidden, detail)
        })
    })
}

fn unauthenticated() -> Problem {
    Problem::new(Kind::Unauthenticated, "the request was not authenticated")
}

async fn path_params(parts: &mut Parts, app: &Arc<App>) -> Result<RawPathParams, Problem> {
    let path = RawPathParams::from_request_parts(parts, app).await;
    path.map_err(|error| Problem::new(Kind::PathNotFound, error))
}

/// Returns the problem of a tenant without a ledger in this process: it may be about to open one.
fn not_open(app: &App, tenant: &TenantName) -> Problem {
    match &app.authentication {
        Authentication::Required(authenticator) if authenticator.has_tenant(tenant) => {
            let detail = format!("the service is opening the ledger of tenant {tenant}; retry soon");
            Problem::new(Kind::AccessUnavailable, detail)
        }
        _ => unknown_tenant(tenant),
    }
}

fn unknown_tenant(tenant: &TenantName) -> Problem {
    Problem::new(
        Kind::UnknownTenant,
        format!("unknown tenant {tenant}, or no grant for it; see release-ledger whoami"),
    )
}

/// The tenant of a request, and its sender.
#[derive(Clone)]
pub(crate) struct Tenancy {
    app: Arc<App>,
    pub(crate) tenant: TenantName,
    sender: Option<Arc<Principal>>,
    stats: Arc<RequestStats>,
    /// Use of the limits by the sender, if it has any.
    meter: Option<Arc<Meter>>,
    /// True for a webhook, or a publisher of a broker: it may report, without a grant, and nothing else.
    is_reporter: bool,
    /// True for a message that is retried: it gives no commands, since its sender decided long ago.
    is_retry: bool,
}

impl Tenancy {
    async fn of(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = path_params(parts, app).await?;
        let named = path.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value);
        let tenant = match named {
            Some(name) => TenantName::parse_any(name).map_err(|error| Problem::parameter("tenant", error))?,
            None => TenantName::default(),
        };
        // Without the extension, the request has not passed the middleware: that is an error of this program.
        let Sent(sender) = parts.extensions.get::<Sent>().cloned().ok_or_else(unauthenticated)?;
        let stats = parts.extensions.get::<Arc<RequestStats>>().cloned().unwrap_or_default();
        stats.set_tenant(&tenant);
        let meter = parts.extensions.get::<Metered>().map(|Metered(meter)| Arc::clone(meter));
        Ok(Self { app: Arc::clone(app), tenant, sender, stats, meter, is_reporter: false, is_retry: false })
    }

    /// Returns the tenancy of an authentic sender that only reports: a webhook, or a publisher of a broker.
    pub(crate) fn of_reporter(
        app: &Arc<App>,
        tenant: &TenantName,
        sender: Arc<Principal>,
        meter: Arc<Meter>,
        stats: Arc<RequestStats>,
    ) -> Self {
        stats.set_tenant(tenant);
        let (app, tenant) = (Arc::clone(app), tenant.clone());
        let meter = Some(meter);
        Self { app, tenant, sender: Some(sender), stats, meter, is_reporter: true, is_retry: false }
    }

    /// Returns the tenancy of the sender of an earlier message in the same tenant, for a request of another principal. A
    /// message without a sender is recorded in the name of that principal.
    pub(crate) fn on_behalf_of(&self, sender: Option<Arc<Principal>>, is_reporter: bool) -> Self {
        Self { sender: sender.or_else(|| self.sender.clone()), is_reporter, is_retry: true, ..self.clone() }
    }

    /// Returns what the request has done so far.
    pub(crate) fn stats(&self) -> &RequestStats {
        &self.stats
    }

    /// Counts events that the client has sent, valid or not.
    pub(crate) fn count_received(&self, events: usize) {
        self.stats.add_received(events);
        if let Some(meter) = &self.meter {
            self.app.rates.add_events(meter, events);
        }
    }

    /// Returns whether and how senders are authenticated.
    pub(super) fn authentication(&self) -> &Authentication {
        &self.app.authentication
    }

    /// Returns the authenticated sender; `None` without authentication.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.sender.as_deref()
    }

    /// Returns the authenticated sender, shared; `None` without authentication.
    pub(crate) const fn sender(&self) -> Option<&Arc<Principal>> {
        self.sender.as_ref()
    }

    /// Checks that the sender may do something.
    fn ask(&self, question: &Question<'_>) -> Result<(), Problem> {
        if self.is_reporter {
            return match VerbSet::Emit.contains(question.verb) {
                true => Ok(()),
                false => Err(Problem::new(
                    Kind::Forbidden,
                    format!("a webhook or a broker reports what happened, and may not {question}"),
                )),
            };
        }
        let Authentication::Required(authenticator) = &self.app.authentication else { return Ok(()) };
        let sender = self.sender.as_deref().ok_or_else(unauthenticated)?;
        match authenticator.decide(sender, question)? {
            Ok(()) => Ok(()),
            // Do not disclose whether a tenant exists to a principal without a grant for it.
            Err(denial) if !denial.knows_tenant => Err(unknown_tenant(&self.tenant)),
            Err(_) => Err(forbidden(sender, question)),
        }
    }

    /// Checks that the sender has some grant for the tenant.
    fn check_known(&self) -> Result<(), Problem> {
        let Authentication::Required(authenticator) = &self.app.authentication else { return Ok(()) };
        let sender = self.sender.as_deref().ok_or_else(unauthenticated)?;
        match authenticator.decide(sender, &Question::everything(Verb::Read, &self.tenant))? {
            Err(denial) if !denial.knows_tenant => Err(unknown_tenant(&self.tenant)),
            _ => Ok(()),
        }
    }

    /// Checks that the sender may do something in an environment, and with one of its services if one is given.
    pub(crate) fn check(
        &self,
        verb: Verb,
        environment: &EnvironmentName,
        service: Option<&ServiceName>,
    ) -> Result<(), Problem> {
        self.ask(&Question::environment(verb, &self.tenant, environment, service))
    }

    /// Checks that the sender may read the history of an environment and a service; `None`: of all of them.
    pub(crate) fn check_reads(
        &self,
        environment: Option<&EnvironmentName>,
        service: Option<&ServiceName>,
    ) -> Result<(), Problem> {
        self.check_history(Verb::Read, environment, service)
    }

    /// Checks that the sender may do something with the history of an environment and a service; `None`: of all of them.
    pub(crate) fn check_history(
        &self,
        verb: Verb,
        environment: Option<&EnvironmentName>,
        service: Option<&ServiceName>,
    ) -> Result<(), Problem> {
        self.ask(&Question {
            verb,
            tenant: &self.tenant,
            environment: environment.map_or(Scope::All, |name| Scope::Named(name.as_str())),
            service: service.map_or(Scope::All, |name| Scope::Named(name.as_str())),
        })
    }

    /// Checks that the sender may do something in all environments.
    pub(crate) fn check_all(&self, verb: Verb) -> Result<(), Problem> {
        self.ask(&Question::everything(verb, &self.tenant))
    }

    /// Checks that the sender may report something in the tenant.
    pub(crate) fn check_reports(&self) -> Result<(), Problem> {
        let may = |verb: &Verb| {
            let (environment, service) = (Scope::Nothing, Scope::Nothing);
            self.ask(&Question { verb: *verb, tenant: &self.tenant, environment, service }).is_ok()
        };
        match Verb::ALL.iter().filter(|verb| VerbSet::Emit.contains(**verb)).any(may) {
            true => Ok(()),
            false => self.check_all(Verb::EmitActivity),
        }
    }

    /// Checks that the sender may read an event, or send it.
    pub(crate) fn check_event(&self, verb: Option<Verb>, payload: &Payload) -> Result<(), Problem> {
        if (self.is_reporter || self.is_retry) && payload.is_command() {
            let detail = "a webhook, a broker, or a message that is retried reports what happened and gives no commands";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        let question = Question::event(&self.tenant, payload);
        match verb {
            // An activity in no environment may tell about all of them.
            Some(verb) if payload.kind().family() == Family::Activity && payload.environment().is_none() => {
                self.check_all(verb)
            }
            _ => self.ask(&Question { verb: verb.unwrap_or(question.verb), ..question }),
        }
    }
}
