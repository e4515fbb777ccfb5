//! Settings: the commented defaults, overridden by a file, the environment and flags, in this order.
//!
//! This module opens no connections.

mod access;
mod hooks;
mod kafka;
mod limits;
mod lists;
mod local;
mod misspelt;
mod nats;
mod pages;
mod role;
mod tls;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use ledger_adapters::cdevents;
use ledger_api::AllowedHosts;
use ledger_domain::TenantName;
use ledger_projections::{SchemaVersion, SupervisorConfig};
use secrecy::SecretString;
use serde::Deserialize;
use uuid::Uuid;

use kafka::KafkaSettings;
use nats::NatsFlags;
use pages::PageFlags;
use tls::TlsFlags;

pub use access::{Access, AuthenticationMode};
pub use hooks::{HookError, WebhookTable};
pub use limits::{LimitFlags, Limits};
pub use local::Local;
pub use nats::Nats;
pub use pages::PageSettings;
pub use role::Role;
pub use tls::check_plain;
pub use webhooks::{SigningSecrets, WebhookError, WebhookFlags, Webhooks};

/// Settings file with all defaults and their descriptions.
pub const DEFAULTS: &str = include_str!("config.default.toml");

/// Prefix of environment variables.
const ENV_PREFIX: &str = "RELEASE_LEDGER_";

/// All settings of the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Tenants to serve.
    #[serde(deserialize_with = "lists::tenants")]
    pub tenants: Vec<TenantName>,
    /// Roles of this process.
    pub roles: Vec<Role>,
    /// Settings of access.
    pub access: Access,
    /// Settings of the API.
    pub http: Http,
    /// Settings of the pages for browsers.
    pub pages: PageSettings,
    /// Limits of each client.
    pub limits: Limits,
    /// Webhooks that the service accepts, by name.
    #[serde(default)]
    pub hooks: BTreeMap<String, WebhookTable>,
    /// Settings for reading CDEvents.
    #[serde(default)]
    pub cdevents: cdevents::Settings,
    /// Settings of Kafka, if it is used.
    #[serde(default)]
    pub(crate) kafka: Option<KafkaSettings>,
    /// Settings of outgoing webhooks.
    pub webhooks: Webhooks,
    /// Settings of the stream.
    pub journal: Journal,
    /// Settings of messages from and to NATS.
    pub nats: Nats,
    /// Settings of the read models.
    pub projections: Projections,
    /// Settings of the log.
    pub log: Log,
}

/// Settings of the API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Maximum size of a batch, in bytes.
    pub max_batch_bytes: usize,
    /// Maximum number of events in one request.
    pub max_events: usize,
    /// Hosts by which clients may reach the service.
    #[serde(deserialize_with = "lists::hosts")]
    pub allowed_hosts: AllowedHosts,
    /// Maximum number of open connections.
    pub max_connections: usize,
    max_followers: usize,
    max_followers_of_principal: usize,
    max_body_bytes: usize,
    max_answer_bytes: usize,
    read_timeout_seconds: u64,
    /// Maximum number of environments of a tenant that have metrics of their own.
    pub metrics_environments: usize,
    write_timeout_seconds: u64,
    min_bytes_per_second: u64,
    question_timeout_seconds: u64,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    tls_require_client_certificate: bool,
    behind_proxy: bool,
}

/// Settings of the stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// NATS servers, separated by commas.
    pub url: SecretString,
    credentials: Option<PathBuf>,
    certificates: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    request_timeout_ms: u64,
    /// Replicas of every entry.
    pub replicas: usize,
    duplicate_window_seconds: u64,
}

/// Settings of the read models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projections {
    /// Database URL.
    pub url: SecretString,
    read_url: Option<SecretString>,
    /// Connections for the queries of one tenant.
    pub connections: u32,
    acquire_timeout_ms: u64,
    grace_seconds: u64,
    keep_older_seconds: u64,
    /// Schema version that the program reads and writes. [`Config::with_schema_version`] sets it; it is no setting.
    #[serde(skip, default = "current_schema_version")]
    schema_version: SchemaVersion,
}

const fn current_schema_version() -> SchemaVersion {
    SchemaVersion::CURRENT
}

/// Settings of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Format.
    pub format: LogFormat,
    /// Filter, in the syntax of tracing.
    pub filter: String,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

impl Http {
    /// Returns the limits of requests.
    #[must_use]
    pub const fn limits(&self) -> ledger_api::Limits {
        ledger_api::Limits {
            batch_bytes: self.max_batch_bytes,
            events: self.max_events,
            read_timeout: Duration::from_secs(self.read_timeout_seconds),
            write_timeout: Duration::from_secs(self.write_timeout_seconds),
            min_bytes_per_second: self.min_bytes_per_second,
            question_timeout: Duration::from_secs(self.question_timeout_seconds),
            connections: self.max_connections,
            body_bytes: self.max_body_bytes,
            answer_bytes: self.max_answer_bytes,
            followers: self.max_followers,
            followers_of_principal: self.max_followers_of_principal,
        }
    }
}

impl Journal {
    /// Returns the settings with which to open the journal.
    #[must_use]
    pub fn settings(&self) -> ledger_journal::jetstream::Settings {
        ledger_journal::jetstream::Settings {
            url: self.url.clone(),
            credentials: self.credentials.clone(),
            certificates: self.certificates.clone(),
            client_certificate: self.client_certificate.clone().zip(self.client_key.clone()),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            stream: ledger_journal::jetstream::StreamSettings {
                replicas: self.replicas,
                duplicate_window: Duration::from_secs(self.duplicate_window_seconds),
            },
        }
    }
}

impl Journal {
    fn check_client_certificate(&self) -> Result<(), Error> {
        let needs = |setting, needed| Err(Error::Incomplete { setting, needed });
        match (&self.client_certificate, &self.client_key) {
            (Some(_), None) => {
                needs("journal.client_certificate", "journal.client_key (--journal-client-key)")
            }
            (None, Some(_)) => {
                needs("journal.client_key", "journal.client_certificate (--journal-client-certificate)")
            }
            _ => Ok(()),
        }
    }
}

impl Projections {
    /// Returns the settings with which to open the projections.
    #[must_use]
    pub fn settings(&self) -> ledger_projections::Settings {
        ledger_projections::Settings {
            url: self.url.clone(),
            connections: self.connections,
            acquire_timeout: Duration::from_millis(self.acquire_timeout_ms),
            schema_version: self.schema_version,
        }
    }

    /// Returns the settings of the projections that answer queries, if they are in another database.
    #[must_use]
    pub fn read_settings(&self) -> Option<ledger_projections::Settings> {
        let url = self.read_url.clone()?;
        Some(ledger_projections::Settings { url, ..self.settings() })
    }

    /// Returns the configuration of the projection supervisor of the process `worker`.
    #[must_use]
    pub const fn supervisor_config(&self, worker: Uuid, runs_projectors: bool) -> SupervisorConfig {
        SupervisorConfig {
            worker_id: worker,
            runs_projectors,
            retired_retention: Duration::from_secs(self.grace_seconds),
            outdated_retention: Duration::from_secs(self.keep_older_seconds),
        }
    }
}

/// Every setting as a command-line flag.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Settings file
    #[arg(long, env = "RELEASE_LEDGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whether clients need credentials
    #[arg(long, value_name = "MODE")]
    pub access_authentication: Option<AuthenticationMode>,
    /// Owner of a token that `up` created, who may do everything.
    #[arg(skip)]
    administrator: Option<Dict>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Maximum size of a batch, in bytes
    #[arg(long, value_name = "BYTES")]
    http_max_batch_bytes: Option<u64>,
    /// Maximum number of events in one request
    #[arg(long, value_name = "N")]
    http_max_events: Option<u64>,
    /// Hosts by which clients may reach the service, separated by commas: names, addresses, `loopback` or `addresses`
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    http_allowed_hosts: Option<Vec<String>>,
    /// Maximum number of open connections
    #[arg(long, value_name = "N")]
    http_max_connections: Option<u64>,
    /// Maximum number of clients that follow entries
    #[arg(long, value_name = "N")]
    http_max_followers: Option<u64>,
    /// Maximum number of clients of one principal that follow entries
    #[arg(long, value_name = "N")]
    http_max_followers_of_principal: Option<u64>,
    /// Maximum size of all request bodies in memory, in bytes
    #[arg(long, value_name = "BYTES")]
    http_max_body_bytes: Option<u64>,
    /// Maximum size of all answers that clients have not taken yet, in bytes
    #[arg(long, value_name = "BYTES")]
    http_max_answer_bytes: Option<u64>,
    /// Longest pause of a client in a request or between two, in seconds
    #[arg(long, value_name = "S")]
    http_read_timeout_seconds: Option<u64>,
    /// Maximum number of environments of a tenant that have metrics of their own
    #[arg(long, value_name = "N")]
    http_metrics_environments: Option<u64>,
    /// Longest pause of a client that takes an answer, in seconds
    #[arg(long, value_name = "S")]
    http_write_timeout_seconds: Option<u64>,
    /// Slowest rate at which a client may send a body or take an answer
    #[arg(long, value_name = "BYTES")]
    http_min_bytes_per_second: Option<u64>,
    /// Time limit of a question, in seconds
    #[arg(long, value_name = "S")]
    http_question_timeout_seconds: Option<u64>,
    #[command(flatten)]
    http_tls: TlsFlags,
    #[command(flatten)]
    pages: PageFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    webhooks: WebhookFlags,
    /// NATS servers, separated by commas
    #[arg(long, value_name = "URL")]
    journal_url: Option<String>,
    /// Credentials file of the NATS account (.creds)
    #[arg(long, value_name = "FILE")]
    journal_credentials: Option<PathBuf>,
    /// File with CA certificates (PEM) that verify the NATS servers
    #[arg(long, value_name = "FILE")]
    journal_certificates: Option<PathBuf>,
    /// Certificate that the service presents to the NATS servers (PEM)
    #[arg(long, value_name = "FILE")]
    journal_client_certificate: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    journal_client_key: Option<PathBuf>,
    /// Time limit of a request to the journal, in milliseconds
    #[arg(long, value_name = "MS")]
    journal_request_timeout_ms: Option<u64>,
    /// Replicas of every entry: 1 or 3
    #[arg(long, value_name = "N")]
    journal_replicas: Option<u64>,
    /// Period during which the NATS server deduplicates messages, in seconds
    #[arg(long, value_name = "S")]
    journal_duplicate_window_seconds: Option<u64>,
    #[command(flatten)]
    nats: NatsFlags,
    /// Postgres URL
    #[arg(long, value_name = "URL")]
    projections_url: Option<String>,
    /// Postgres URL for queries, if it differs: a streaming replica
    #[arg(long, value_name = "URL")]
    projections_read_url: Option<String>,
    /// Connections for the queries of one tenant
    #[arg(long, value_name = "N")]
    projections_connections: Option<u64>,
    /// Longest wait of a query for a connection, in milliseconds
    #[arg(long, value_name = "MS")]
    projections_acquire_timeout_ms: Option<u64>,
    /// Period for which a replaced generation of projections is kept, in seconds
    #[arg(long, value_name = "S")]
    projections_grace_seconds: Option<u64>,
    /// Period for which a generation of an older schema version is kept after its last use, in seconds
    #[arg(long, value_name = "S")]
    projections_keep_older_seconds: Option<u64>,
    /// Tenants to serve, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tenants: Option<Vec<String>>,
    /// Run only these roles, separated by commas
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    only: Option<Vec<Role>>,
    /// Log format
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log filter, in the syntax of tracing
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

/// Error in the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings file does not exist.
    #[error("settings file {0} does not exist")]
    NoFile(PathBuf),
    /// The settings file of `up` contains settings that `up` sets itself.
    #[error("settings file {0} sets {1}, which `up` sets itself; remove them, or use `release-ledger serve`")]
    ReservedForUp(PathBuf, String),
    /// A setting is missing, unknown or invalid.
    #[error("{}", misspelt::describe(.0))]
    Setting(Box<figment::Error>),
    /// A variable of the environment sets nothing: its name lacks an underscore.
    #[error("the environment variable RELEASE_LEDGER_{0} sets nothing; did you mean RELEASE_LEDGER_{1}?")]
    Variable(String, String),
    /// Clients need no credentials, and others than those of this machine could connect.
    #[error(
        "access.authentication = \"off\" is possible on a loopback address only, not on {0}: everyone who reaches it \
         could change the ledger"
    )]
    UnauthenticatedOnNetwork(SocketAddr),
    /// Clients need no credentials, and a proxy lets others connect.
    #[error(
        "access.authentication = \"off\" is not possible with http.behind_proxy: everyone could change the ledger"
    )]
    UnauthenticatedBehindProxy,
    /// An administrator of the settings may state any actor.
    #[error("the kind of an administrator must be person or workload; only `up` has a local user")]
    LocalAdministrator,
    /// Clients need credentials, and no credentials would be accepted.
    #[error(
        "access.authentication = \"required\", but no credentials would be accepted: add an administrator to the settings \
         file (`release-ledger token generate` prints a token and its lines), or listen on a loopback address with \
         --access-authentication=off"
    )]
    NoCredentials,
    /// Credentials of clients would cross a network in plain text.
    #[error(
        "cannot listen on {0} without TLS, as everyone on the way could read the credentials of clients: set \
         http.tls_certificate and http.tls_key (--http-tls-certificate, --http-tls-key), or http.behind_proxy = true \
         if a proxy encrypts (--http-behind-proxy; for `up`: --behind-proxy), or listen on a loopback address"
    )]
    Plain(SocketAddr),
    /// A setting needs another one.
    #[error("{setting} needs {needed}")]
    Incomplete {
        /// The setting.
        setting: &'static str,
        /// The setting that is missing, and its flag.
        needed: &'static str,
    },
    /// A setting names a tenant that the service does not serve.
    #[error("{0}: tenant {1} is not one of the tenants in the settings")]
    UnknownTenant(&'static str, TenantName),
    /// A required list is empty.
    #[error("{0} must have at least one element")]
    Empty(&'static str),
}

impl Config {
    /// Replaces the schema version of the projections, which is the current one otherwise.
    #[must_use]
    pub const fn with_schema_version(mut self, schema_version: SchemaVersion) -> Self {
        self.projections.schema_version = schema_version;
        self
    }

    /// Reads the settings from the defaults, the file, the environment and the flags.
    ///
    /// # Errors
    /// Names the invalid setting and its source.
    pub fn read(flags: &Flags) -> Result<Self, Error> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = &flags.config {
            figment = figment.merge(Toml::file_exact(existing_file(file)?));
        }
        // Ignore other variables with the prefix: the client has some, and Kubernetes derives some from service names.
        let environment =
            Env::prefixed(ENV_PREFIX).filter(|name| name.as_str().contains("__")).split("__").lowercase(true);
        misspelt::check_variables(Env::prefixed(ENV_PREFIX).iter().map(|(name, _)| name.to_string()))?;
        let lists =
            Env::prefixed(ENV_PREFIX).only(&["tenants", "roles"]).lowercase(true).map(|name| name.into());
        let lists = lists.iter().map(|(name, text)| (name.to_string(), list(&text))).collect::<Dict>();
        let config: Self = figment
            .merge(environment)
            .merge(Serialized::globals(lists))
            .merge(Serialized::globals(flags.dict()))
            .extract()
            .map_err(|error| Error::Setting(Box::new(error)))?;
        if config.tenants.is_empty() {
            return Err(Error::Empty("tenants"));
        }
        if config.roles.is_empty() {
            return Err(Error::Empty("roles"));
        }
        config.journal.check_client_certificate()?;
        config.nats.check(&config.tenants)?;
        config.check_pages()?;
        Ok(config)
    }

    /// Reads the settings of a service, as [`Self::read`] does.
    ///
    /// # Errors
    /// Names the invalid setting and its source, or the one that would open the service to everyone or to no one.
    pub fn read_for_serving(flags: &Flags) -> Result<Self, Error> {
        let config = Self::read(flags)?;
        config.check_access()?;
        if flags.administrator.is_none() && config.access.has_local_user() {
            return Err(Error::LocalAdministrator);
        }
        config.http.check_encryption()?;
        Ok(config)
    }
}

impl Config {
    /// Returns the tenants whose ledgers the service opens: those that it serves, and that of tokens and grants if clients
    /// need credentials.
    #[must_use]
    pub fn ledgers(&self) -> Vec<TenantName> {
        let admin = (self.access.authentication == AuthenticationMode::Required).then(TenantName::admin);
        self.tenants.iter().cloned().chain(admin).collect()
    }

    /// Returns the largest number of ledgers that the service opens: tenants are created while it runs.
    pub(crate) fn max_ledgers(&self) -> usize {
        match self.access.authentication {
            AuthenticationMode::Required => self.access.max_tenants.get().max(self.tenants.len()) + 1,
            AuthenticationMode::Off => self.tenants.len(),
        }
    }

    /// Checks that the service does not start open to everyone, or closed to everyone.
    fn check_access(&self) -> Result<(), Error> {
        match self.access.authentication {
            AuthenticationMode::Off if self.http.behind_proxy => Err(Error::UnauthenticatedBehindProxy),
            AuthenticationMode::Off if !self.http.listen.ip().is_loopback() => {
                Err(Error::UnauthenticatedOnNetwork(self.http.listen))
            }
            AuthenticationMode::Required if self.access.has_no_credentials() => Err(Error::NoCredentials),
            _ => Ok(()),
        }
    }
}

/// Splits a comma-separated list.
fn list(text: &str) -> Value {
    Value::from(text.split(',').map(|word| Value::from(word.trim())).collect::<Vec<_>>())
}

fn existing_file(file: &Path) -> Result<&Path, Error> {
    if file.is_file() { Ok(file) } else { Err(Error::NoFile(file.to_owned())) }
}

impl Flags {
    /// Returns the flags that name a settings file and set nothing else.
    #[must_use]
    pub fn of_file(config: Option<PathBuf>) -> Self {
        Self { config, ..Self::default() }
    }

    /// Returns the given flags as a tree of settings.
    fn dict(&self) -> Dict {
        let list = |words: &[String]| Value::from(words.iter().cloned().map(Value::from).collect::<Vec<_>>());
        let path = |path: &Path| Value::from(path.to_string_lossy().into_owned());
        let role = |role: &Role| role.name().to_owned();
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        });
        let mode = self.access_authentication.map(AuthenticationMode::name);
        let administrators = self.administrator.clone().map(|one| Value::from(vec![Value::from(one)]));
        let given: [(&str, &str, Option<Value>); 34] = [
            ("access", "authentication", mode.map(Value::from)),
            ("access", "administrators", administrators),
            ("", "tenants", self.tenants.as_deref().map(list)),
            ("", "roles", self.only.as_ref().map(|only| list(&only.iter().map(role).collect::<Vec<_>>()))),
            ("http", "listen", self.listen.map(|address| address.to_string().into())),
            ("http", "max_batch_bytes", self.http_max_batch_bytes.map(Value::from)),
            ("http", "max_events", self.http_max_events.map(Value::from)),
            ("http", "allowed_hosts", self.http_allowed_hosts.as_deref().map(list)),
            ("http", "max_connections", self.http_max_connections.map(Value::from)),
            ("http", "max_followers", self.http_max_followers.map(Value::from)),
            ("http", "max_followers_of_principal", self.http_max_followers_of_principal.map(Value::from)),
            ("http", "max_body_bytes", self.http_max_body_bytes.map(Value::from)),
            ("http", "max_answer_bytes", self.http_max_answer_bytes.map(Value::from)),
            ("http", "read_timeout_seconds", self.http_read_timeout_seconds.map(Value::from)),
            ("http", "metrics_environments", self.http_metrics_environments.map(Value::from)),
            ("http", "write_timeout_seconds", self.http_write_timeout_seconds.map(Value::from)),
            ("http", "min_bytes_per_second", self.http_min_bytes_per_second.map(Value::from)),
            ("http", "question_timeout_seconds", self.http_question_timeout_seconds.map(Value::from)),
            ("journal", "url", self.journal_url.clone().map(Value::from)),
            ("journal", "credentials", self.journal_credentials.as_deref().map(path)),
            ("journal", "certificates", self.journal_certificates.as_deref().map(path)),
            ("journal", "client_certificate", self.journal_client_certificate.as_deref().map(path)),
            ("journal", "client_key", self.journal_client_key.as_deref().map(path)),
            ("journal", "request_timeout_ms", self.journal_request_timeout_ms.map(Value::from)),
            ("journal", "replicas", self.journal_replicas.map(Value::from)),
            ("journal", "duplicate_window_seconds", self.journal_duplicate_window_seconds.map(Value::from)),
            ("projections", "url", self.projections_url.clone().map(Value::from)),
            ("projections", "read_url", self.projections_read_url.clone().map(Value::from)),
            ("projections", "connections", self.projections_connections.map(Value::from)),
            ("projections", "acquire_timeout_ms", self.projections_acquire_timeout_ms.map(Value::from)),
            ("projections", "grace_seconds", self.projections_grace_seconds.map(Value::from)),
            ("projections", "keep_older_seconds", self.projections_keep_older_seconds.map(Value::from)),
            ("log", "format", format.map(Value::from)),
            ("log", "filter", self.log_filter.clone().map(Value::from)),
        ];
        let mut sections: BTreeMap<&str, Dict> = BTreeMap::new();
        for (section, name, value) in given.into_iter().chain(self.http_tls.given()).chain(self.nats.given())
        {
            if let Some(value) = value {
                sections.entry(section).or_default().insert(name.to_owned(), value);
            }
        }
        sections.insert("pages", self.pages.dict());
        sections.insert("limits", self.limits.dict());
        sections.insert("webhooks", self.webhooks.dict());
        let mut root = sections.remove("").unwrap_or_default();
        root.extend(sections.into_iter().map(|(name, section)| (name.to_owned(), Value::from(section))));
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    /// Flags of a service without authentication.
    fn open() -> Flags {
        Flags { access_authentication: Some(AuthenticationMode::Off), ..Flags::default() }
    }

    #[test]
    fn the_projections_have_the_schema_version_of_the_program() {
        let config = Config::read(&open()).expect("valid defaults");
        let version = |config: &Config| config.projections.settings().schema_version.version;
        let next = SchemaVersion { version: version(&config) + 1, ..SchemaVersion::CURRENT };

        assert_eq!(version(&config), SchemaVersion::CURRENT.version);
        assert_eq!(version(&config.with_schema_version(next)), next.version);
    }

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::read(&open()).expect("valid defaults");
        assert_eq!(config.tenants, [TenantName::default()]);
        assert_eq!(config.roles, [Role::Http, Role::Projector, Role::Controller, Role::Webhooks]);
    }

    #[test]
    fn allowed_hosts_are_a_list_or_a_text_with_commas() {
        let with = |setting: &str| {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            std::fs::write(file.path(), format!("[http]\nallowed_hosts = {setting}\n")).expect("written");
            let flags = Flags { config: Some(file.path().to_owned()), ..open() };
            Config::read(&flags).map(|config| config.http.allowed_hosts).map_err(|error| error.to_string())
        };
        let both = AllowedHosts::parse(["a.example", "loopback"]).expect("valid hosts");

        assert_eq!(with(r#"["a.example", "loopback"]"#), Ok(both.clone()));
        assert_eq!(with(r#""a.example, loopback""#), Ok(both));
        assert!(with(r#"["a.example:80"]"#).is_err_and(|error| error.contains("a.example:80")));
    }

    #[test]
    fn a_flag_overrides_the_file() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "[journal]\nurl = \"nats://file\"\nreplicas = 3\n").expect("written");
        let flags =
            Flags { config: Some(file.path().to_owned()), journal_url: Some("nats://flag".into()), ..open() };
        let config = Config::read(&flags).expect("valid settings");
        assert_eq!(config.journal.url.expose_secret(), "nats://flag");
        assert_eq!(config.journal.replicas, 3);
    }

    #[test]
    fn a_missing_file_is_named() {
        let flags = Flags { config: Some("/no/such.toml".into()), ..open() };
        assert!(matches!(Config::read(&flags), Err(Error::NoFile(_))));
    }
}
