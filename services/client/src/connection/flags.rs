//! The flags that select the service, the tenant and the credentials.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser as _};
use ledger_domain::TenantName;
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::{Client, Transport};
use crate::address::{
    AddressError, GivenHeader, GivenTenant, GivenUrl, ServiceUrl, is_loopback, is_same_service,
};
use crate::contexts::{Context, Contexts};
use crate::credentials::{Credentials, Given, Reread, SelectedContext, Surroundings};

/// The URL of the service if neither a flag, a variable nor a context gives one.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Flags that select the service and the credentials.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ServiceFlags {
    /// The URL of the service [default: that of the context, or http://127.0.0.1:8080]
    #[arg(
        long,
        value_name = "URL",
        env = "RELEASE_LEDGER_URL",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(GivenUrl::parse)
    )]
    url: Option<GivenUrl>,
    /// The context: see `release-ledger context` [default: the current one, unless a URL is given]
    #[arg(long, value_name = "NAME", env = "RELEASE_LEDGER_CONTEXT")]
    context: Option<String>,
    /// The file with the token. Without it, the credentials are RELEASE_LEDGER_TOKEN, those of the URL or of the
    /// context, or the identity of the CI
    #[arg(long, value_name = "FILE", env = "RELEASE_LEDGER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The audience for which the CI issues its identity [default: that of the context]
    #[arg(long, value_name = "AUDIENCE", env = "RELEASE_LEDGER_AUDIENCE")]
    audience: Option<String>,
    /// Send credentials over plain http to another machine
    #[arg(long, env = "RELEASE_LEDGER_INSECURE_HTTP", value_parser = BoolishValueParser::new())]
    insecure_http: bool,
    /// A file with further certificate authorities, in PEM form [default: that of the context]
    #[arg(long, alias = "ca", value_name = "FILE", env = "RELEASE_LEDGER_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A file with a client certificate and its private key, in PEM form, for a proxy that asks for one
    #[arg(long, value_name = "FILE", env = "RELEASE_LEDGER_CLIENT_CERT")]
    client_cert: Option<PathBuf>,
    /// A header of every request, for a proxy that asks for one; may be given several times
    #[arg(
        long = "header",
        value_name = "NAME:VALUE",
        value_parser = OsStringValueParser::new().map(GivenHeader::parse)
    )]
    headers: Vec<GivenHeader>,
    /// Wait up to this many seconds for a service that starts, before the first request
    #[arg(
        long,
        value_name = "SECONDS",
        env = "RELEASE_LEDGER_WAIT",
        default_value_t = 0,
        hide_default_value = true
    )]
    wait: u32,
}

/// Flags that select the service and the tenant's ledger.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    #[command(flatten)]
    service: ServiceFlags,
    /// The tenant [default: that of the context, or default]
    #[arg(
        long,
        value_name = "NAME",
        env = "RELEASE_LEDGER_TENANT",
        value_parser = OsStringValueParser::new().map(GivenTenant::parse)
    )]
    tenant: Option<GivenTenant>,
}

impl Connection {
    /// Creates the client. It connects with the first request, and obtains its credentials then.
    ///
    /// # Errors
    /// The URL, the tenant or the context is invalid.
    pub fn client(self) -> Result<Client, AddressError> {
        Ok(self.client_and_tenant(&Surroundings::of_process())?.0)
    }

    /// Creates the client; returns the tenant as well.
    pub(crate) fn client_and_tenant(
        self,
        surroundings: &Surroundings,
    ) -> Result<(Client, TenantName), AddressError> {
        let given = self.tenant.map(GivenTenant::into_result).transpose()?;
        self.service.client(|tenant| given.unwrap_or(tenant), surroundings)
    }
}

/// The service of a command.
struct Target {
    service: ServiceUrl,
    /// The tenant of the context.
    tenant: TenantName,
    audience: Option<String>,
    context: Result<Option<SelectedContext>, String>,
}

impl ServiceFlags {
    /// Creates the client of the tenant that `choose` returns for that of the context.
    pub(crate) fn client(
        self,
        choose: impl FnOnce(TenantName) -> TenantName,
        surroundings: &Surroundings,
    ) -> Result<(Client, TenantName), AddressError> {
        let target = self.target(surroundings)?;
        let url = target.service.url.clone();
        let of_service = target.context().filter(|found| found.is_of_service);
        let ca_file = self.ca_file.clone().or_else(|| of_service.and_then(|found| found.ca_file.clone()));
        let transport = Transport {
            ca_file: ca_file.as_deref(),
            client_cert: self.client_cert.as_deref(),
            headers: self.headers(&url)?,
            startup_timeout: Duration::from_secs(self.wait.into()),
            reread: (self.wait > 0).then(|| self.reread(&target, surroundings)),
        };
        let credentials = self.credentials(&target, surroundings);
        let tenant = choose(target.tenant);
        Ok((Client::of(url, &tenant, credentials, &transport), tenant))
    }

    /// Chooses the credentials for a service.
    fn credentials(&self, target: &Target, surroundings: &Surroundings) -> Credentials {
        let given = Given {
            service: &target.service.url,
            token_file: self.token_file.as_deref(),
            url_credentials: target.service.credentials.clone(),
            context: target.context.clone(),
            audience: self.audience.as_deref().or(target.audience.as_deref()),
            insecure_http: self.insecure_http,
        };
        Credentials::choose(given, surroundings)
    }

    /// Returns how to choose the credentials for the same service again, with the contexts as they are then.
    fn reread(&self, target: &Target, surroundings: &Surroundings) -> Reread {
        let context = target.context().map(|context| context.name.clone());
        let flags = Self { url: Some(GivenUrl::of(target.service.clone())), context, ..self.clone() };
        let surroundings = surroundings.clone();
        Reread::new(move || Some(flags.credentials(&flags.target(&surroundings).ok()?, &surroundings)))
    }

    /// Returns the headers. They may be secrets, and are sent like credentials.
    fn headers(&self, service: &Url) -> Result<HeaderMap, AddressError> {
        let mut headers = HeaderMap::new();
        for header in self.headers.iter().cloned() {
            let (name, value) = header.into_result()?;
            headers.append(name, value);
        }
        let is_plain = service.scheme() != "https" && !is_loopback(service);
        if !headers.is_empty() && is_plain && !self.insecure_http {
            return Err(AddressError::Header(
                "refusing to send it over plain http to another machine; use https, or allow it with --insecure-http or \
                 RELEASE_LEDGER_INSECURE_HTTP=1",
            ));
        }
        Ok(headers)
    }

    /// Finds the service: the URL, and the context that is selected, current, or of this URL.
    fn target(&self, surroundings: &Surroundings) -> Result<Target, AddressError> {
        let given = self.url.clone().map(GivenUrl::into_result).transpose()?;
        let contexts = match &surroundings.config {
            Ok(folder) => Contexts::read(folder).map_err(|error| format!("{error:#}")),
            Err(reason) if self.context.is_some() => Err(reason.clone()),
            Err(_) => Ok(Contexts::default()),
        };
        let invalid = |reason: &str| AddressError::Context(reason.to_owned());
        let get = |contexts: &Contexts, name: &str, named_by: &str| {
            let found = contexts.get(name).cloned();
            found.map_err(|error| AddressError::Context(format!("invalid {named_by}: {error}")))
        };
        match (&self.context, given, contexts) {
            (Some(_), _, Err(reason)) | (None, None, Err(reason)) => Err(invalid(&reason)),
            (Some(name), given, Ok(contexts)) => {
                let context = get(&contexts, name, "--context or RELEASE_LEDGER_CONTEXT")?;
                Ok(Target::of_context(name, context, given))
            }
            (None, Some(service), Err(reason)) => {
                Ok(Target { service, tenant: TenantName::default(), audience: None, context: Err(reason) })
            }
            (None, None, Ok(contexts)) if contexts.current.is_some() => {
                let name = contexts.current.clone().unwrap_or_default();
                let context = get(&contexts, &name, "current context")?;
                Ok(Target::of_context(&name, context, None))
            }
            (None, given, Ok(contexts)) => {
                let default = || ServiceUrl::new(DEFAULT_URL.parse().expect("the default is a URL"));
                Ok(Target::of_url(given.unwrap_or_else(default), &contexts))
            }
        }
    }
}

impl Target {
    /// Returns the context, if there is one.
    fn context(&self) -> Option<&SelectedContext> {
        self.context.as_ref().ok().and_then(Option::as_ref)
    }

    fn of_context(name: &str, context: Context, given: Option<ServiceUrl>) -> Self {
        let url = context.url.url().clone();
        let service = given.unwrap_or_else(|| ServiceUrl::new(url));
        let tenant = context.tenant.as_deref().and_then(|tenant| TenantName::parse_any(tenant).ok());
        Self::new(service, tenant.unwrap_or_default(), Some((name, &context)))
    }

    /// The tenant of a context that only has the same URL does not count.
    fn of_url(service: ServiceUrl, contexts: &Contexts) -> Self {
        let found = contexts.of_service(&service.url);
        Self::new(service, TenantName::default(), found)
    }

    fn new(service: ServiceUrl, tenant: TenantName, context: Option<(&str, &Context)>) -> Self {
        let context = context.map(|(name, context)| {
            let selected = SelectedContext {
                name: name.to_owned(),
                url: context.url.url().clone(),
                token: context.token(),
                ca_file: context.ca_file.clone(),
                is_of_service: is_same_service(context.url.url(), &service.url),
            };
            (selected, context.audience.clone())
        });
        let (context, audience) = context.unzip();
        let audience = audience
            .flatten()
            .filter(|_| context.as_ref().is_some_and(|context: &SelectedContext| context.is_of_service));
        Self { service, tenant, audience, context: Ok(context) }
    }
}

#[cfg(test)]
mod tests;
