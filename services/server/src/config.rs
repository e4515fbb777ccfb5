//! Settings: the commented defaults, outranked by a file, the environment and flags, in this order.
//!
//! Nothing here connects to anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use ledger_domain::TenantName;
use ledger_projections::{SchemaVersion, SupervisorConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

/// The settings with their defaults and their meaning.
pub const DEFAULTS: &str = include_str!("config.default.toml");

const PREFIX: &str = "RELEASE_LEDGER_";

/// All settings of the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose ledgers are served.
    #[serde(deserialize_with = "tenants")]
    pub tenants: Vec<TenantName>,
    /// What this process does.
    pub roles: Vec<Role>,
    /// The API.
    pub http: Http,
    /// The stream.
    pub journal: Journal,
    /// The read models.
    pub projections: Projections,
    /// What is told, and how.
    pub log: Log,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It takes events in and answers questions.
    Http,
    /// It folds the stream into the projections.
    Projector,
    /// It answers failed checks with rollbacks, where a policy says so.
    Controller,
}

/// The API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Bytes of one batch.
    pub max_batch_bytes: usize,
    /// Events in one request.
    pub max_events: usize,
    read_timeout_seconds: u64,
}

/// The stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// NATS servers, separated by commas.
    pub url: SecretString,
    credentials: Option<PathBuf>,
    certificates: Option<PathBuf>,
    request_timeout_ms: u64,
    /// Copies of every entry.
    pub replicas: usize,
    duplicate_window_seconds: u64,
}

/// The read models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projections {
    /// The database.
    pub url: SecretString,
    read_url: Option<SecretString>,
    /// Connections for the questions of one tenant.
    pub connections: u32,
    acquire_timeout_ms: u64,
    grace_seconds: u64,
    keep_older_seconds: u64,
}

/// What is told, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How.
    pub format: LogFormat,
    /// A tracing filter.
    pub filter: String,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Http {
    /// Sizes above which a request is refused, and how long a client may be silent.
    #[must_use]
    pub const fn limits(&self) -> ledger_api::Limits {
        ledger_api::Limits {
            batch_bytes: self.max_batch_bytes,
            events: self.max_events,
            silence: Duration::from_secs(self.read_timeout_seconds),
        }
    }
}

impl Journal {
    /// How the journal is opened.
    #[must_use]
    pub fn settings(&self) -> ledger_journal::jetstream::Settings {
        ledger_journal::jetstream::Settings {
            url: self.url.clone(),
            credentials: self.credentials.clone(),
            certificates: self.certificates.clone(),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            stream: ledger_journal::jetstream::StreamSettings {
                replicas: self.replicas,
                duplicate_window: Duration::from_secs(self.duplicate_window_seconds),
            },
        }
    }
}

impl Projections {
    /// How the projections are reached, in a form.
    #[must_use]
    pub fn settings(&self, schema_version: SchemaVersion) -> ledger_projections::Settings {
        ledger_projections::Settings {
            url: self.url.clone(),
            connections: self.connections,
            acquire_timeout: Duration::from_millis(self.acquire_timeout_ms),
            schema_version,
        }
    }

    /// How the projections are reached that questions are answered from, where that is another database.
    #[must_use]
    pub fn read_settings(&self, schema_version: SchemaVersion) -> Option<ledger_projections::Settings> {
        let url = self.read_url.clone()?;
        Some(ledger_projections::Settings { url, ..self.settings(schema_version) })
    }

    /// How a process keeps them that has this name.
    #[must_use]
    pub const fn keeping(&self, member: Uuid, folds: bool) -> SupervisorConfig {
        SupervisorConfig {
            member,
            folds,
            grace: Duration::from_secs(self.grace_seconds),
            keep_older: Duration::from_secs(self.keep_older_seconds),
        }
    }
}

fn tenants<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<TenantName>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let parsed = names.iter().map(|name| TenantName::parse(name));
    parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

/// Every setting as a flag.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// A settings file
    #[arg(long, env = "RELEASE_LEDGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Bytes of one batch
    #[arg(long, value_name = "BYTES")]
    http_max_batch_bytes: Option<u64>,
    /// Events in one request
    #[arg(long, value_name = "N")]
    http_max_events: Option<u64>,
    /// How long a client may be silent in the middle of a request, or between two
    #[arg(long, value_name = "S")]
    http_read_timeout_seconds: Option<u64>,
    /// NATS servers, separated by commas
    #[arg(long, value_name = "URL")]
    journal_url: Option<String>,
    /// A file with the account's credentials for NATS (.creds)
    #[arg(long, value_name = "FILE")]
    journal_credentials: Option<PathBuf>,
    /// A file with certificates (PEM) that the NATS servers' are checked against
    #[arg(long, value_name = "FILE")]
    journal_certificates: Option<PathBuf>,
    /// How long one request to the journal may take
    #[arg(long, value_name = "MS")]
    journal_request_timeout_ms: Option<u64>,
    /// Copies of every entry: 1 or 3
    #[arg(long, value_name = "N")]
    journal_replicas: Option<u64>,
    /// How long the NATS server itself remembers identities
    #[arg(long, value_name = "S")]
    journal_duplicate_window_seconds: Option<u64>,
    /// The database
    #[arg(long, value_name = "URL")]
    projections_url: Option<String>,
    /// The database that questions are answered from, if it is another: a streaming replica
    #[arg(long, value_name = "URL")]
    projections_read_url: Option<String>,
    /// Connections for the questions of one tenant
    #[arg(long, value_name = "N")]
    projections_connections: Option<u64>,
    /// How long a question waits for a connection
    #[arg(long, value_name = "MS")]
    projections_acquire_timeout_ms: Option<u64>,
    /// How long projections that were replaced are kept for those who have not heard of it yet
    #[arg(long, value_name = "S")]
    projections_grace_seconds: Option<u64>,
    /// How long projections of an older form are kept after the last program that knows it was seen
    #[arg(long, value_name = "S")]
    projections_keep_older_seconds: Option<u64>,
    /// Whose ledgers are served, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tenants: Option<Vec<String>>,
    /// Do only this
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    only: Option<Vec<Role>>,
    /// How the log is written
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: a tracing filter
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named is not there.
    #[error("the settings file {0} is not there")]
    NoFile(PathBuf),
    /// A setting is missing, unknown or wrong.
    #[error("{0}")]
    Setting(Box<figment::Error>),
    /// No tenant, or no role.
    #[error("{0} must name at least one")]
    Empty(&'static str),
}

impl Config {
    /// Reads the settings: defaults, file, environment, flags.
    ///
    /// # Errors
    /// Says which setting is wrong, and where it was set.
    pub fn read(flags: &Flags) -> Result<Self, Error> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = &flags.config {
            figment = figment.merge(Toml::file_exact(existing(file)?));
        }
        // Other variables with the prefix are not ours to judge: the client has some, and Kubernetes makes
        // some of a service's name.
        let environment =
            Env::prefixed(PREFIX).filter(|name| name.as_str().contains("__")).split("__").lowercase(true);
        let words = Env::prefixed(PREFIX).only(&["tenants", "roles"]).lowercase(true).map(|name| name.into());
        let words = words.iter().map(|(name, text)| (name.to_string(), list(&text))).collect::<Dict>();
        let config: Self = figment
            .merge(environment)
            .merge(Serialized::globals(words))
            .merge(Serialized::globals(flags.dict()))
            .extract()
            .map_err(|error| Error::Setting(Box::new(error)))?;
        if config.tenants.is_empty() {
            return Err(Error::Empty("tenants"));
        }
        if config.roles.is_empty() {
            return Err(Error::Empty("roles"));
        }
        Ok(config)
    }
}

/// Words separated by commas.
fn list(text: &str) -> Value {
    Value::from(text.split(',').map(|word| Value::from(word.trim())).collect::<Vec<_>>())
}

fn existing(file: &Path) -> Result<&Path, Error> {
    if file.is_file() { Ok(file) } else { Err(Error::NoFile(file.to_owned())) }
}

impl Flags {
    /// The flags of a service beside private servers.
    #[must_use]
    pub fn for_local(
        listen: SocketAddr,
        tenants: Option<Vec<String>>,
        log_filter: String,
        stack: &ledger_devstack::Stack,
    ) -> Self {
        Self {
            listen: Some(listen),
            tenants,
            log_filter: Some(log_filter),
            journal_url: Some(stack.nats.url().expose_secret().to_owned()),
            projections_url: Some(stack.postgres.url().expose_secret().to_owned()),
            ..Self::default()
        }
    }

    /// The flags that are given, as a tree of settings.
    fn dict(&self) -> Dict {
        let words =
            |words: &[String]| Value::from(words.iter().cloned().map(Value::from).collect::<Vec<_>>());
        let path = |path: &Path| Value::from(path.to_string_lossy().into_owned());
        let role = |role: &Role| match role {
            Role::Http => "http".to_owned(),
            Role::Projector => "projector".to_owned(),
            Role::Controller => "controller".to_owned(),
        };
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        });
        let given: [(&str, &str, Option<Value>); 20] = [
            ("", "tenants", self.tenants.as_deref().map(words)),
            ("", "roles", self.only.as_ref().map(|only| words(&only.iter().map(role).collect::<Vec<_>>()))),
            ("http", "listen", self.listen.map(|address| address.to_string().into())),
            ("http", "max_batch_bytes", self.http_max_batch_bytes.map(Value::from)),
            ("http", "max_events", self.http_max_events.map(Value::from)),
            ("http", "read_timeout_seconds", self.http_read_timeout_seconds.map(Value::from)),
            ("journal", "url", self.journal_url.clone().map(Value::from)),
            ("journal", "credentials", self.journal_credentials.as_deref().map(path)),
            ("journal", "certificates", self.journal_certificates.as_deref().map(path)),
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
        for (section, name, value) in given {
            if let Some(value) = value {
                sections.entry(section).or_default().insert(name.to_owned(), value);
            }
        }
        let mut root = sections.remove("").unwrap_or_default();
        root.extend(sections.into_iter().map(|(name, section)| (name.to_owned(), Value::from(section))));
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::read(&Flags::default()).expect("the defaults");
        assert_eq!(config.tenants, [TenantName::default()]);
        assert_eq!(config.roles, [Role::Http, Role::Projector, Role::Controller]);
    }

    #[test]
    fn a_flag_outranks_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[journal]\nurl = \"nats://file\"\nreplicas = 3\n").expect("written");
        let flags = Flags {
            config: Some(file.path().to_owned()),
            journal_url: Some("nats://flag".into()),
            ..Flags::default()
        };
        let config = Config::read(&flags).expect("settings");
        assert_eq!(config.journal.url.expose_secret(), "nats://flag");
        assert_eq!(config.journal.replicas, 3);
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[journal]\nreplica = 3\n").expect("written");
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        let error = Config::read(&flags).expect_err("refused").to_string();
        assert!(error.contains("replica"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let flags = Flags { config: Some("/no/such.toml".into()), ..Flags::default() };
        assert!(matches!(Config::read(&flags), Err(Error::NoFile(_))));
    }
}
