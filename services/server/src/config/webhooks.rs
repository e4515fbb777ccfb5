//! Settings of outgoing webhooks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Value};
use ledger_adapters::hooks::{SigningSecret, SigningSecretError};
use ledger_domain::{NameError, SecretName, TenantName};
use ledger_webhooks::{Network, Settings};
use serde::{Deserialize, Deserializer};

use super::Config;
use super::lists::words;

/// Deliveries to webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    allow_http: bool,
    #[serde(deserialize_with = "networks")]
    allow_networks: Vec<Network>,
    parallel_deliveries: usize,
    timeout_seconds: u64,
    first_delay_ms: u64,
    longest_delay_seconds: u64,
    give_up_seconds: u64,
    #[serde(default)]
    secrets: BTreeMap<String, SecretSetting>,
}

/// A signing secret: the tenant whose subscriptions may name it, and its files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretSetting {
    #[serde(default, deserialize_with = "tenant")]
    tenant: TenantName,
    files: Vec<PathBuf>,
}

/// Reason why the deliveries to webhooks cannot start.
#[derive(Debug, thiserror::Error)]
#[error("webhooks.{setting}: {reason}")]
pub struct WebhookError {
    setting: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("must be from 1 to {0}")]
    Bounds(u64),
    #[error("the name is not valid: {0}")]
    Name(NameError),
    #[error("tenant {0} is not one of the tenants in the settings")]
    Tenant(TenantName),
    #[error("needs at least one file")]
    NoFile,
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the secret in {path} cannot be used: {source}")]
    Secret { path: PathBuf, source: SigningSecretError },
}

/// Signing secrets by tenant and name. A name may have several secrets while one replaces another.
pub type SigningSecrets = BTreeMap<TenantName, BTreeMap<SecretName, Vec<SigningSecret>>>;

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let words = words(deserializer)?;
    let words = words.iter().filter(|word| !word.is_empty());
    words.map(|word| word.parse()).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

fn tenant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TenantName, D::Error> {
    let name = String::deserialize(deserializer)?;
    TenantName::parse(&name).map_err(serde::de::Error::custom)
}

impl Webhooks {
    /// Returns the maximum number of connections to receivers that are in use.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.parallel_deliveries
    }

    /// Returns the settings of the deliveries.
    ///
    /// # Errors
    /// Names the setting that is out of bounds.
    pub fn settings(&self) -> Result<Settings, WebhookError> {
        let bounded = |setting: &str, value: u64, most: u64| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(WebhookError { setting: setting.to_owned(), reason: Reason::Bounds(most) }),
        };
        let parallel = u64::try_from(self.parallel_deliveries).unwrap_or(u64::MAX);
        bounded("parallel_deliveries", parallel, 10_000)?;
        let timeout = bounded("timeout_seconds", self.timeout_seconds, Settings::MAX_TIMEOUT.as_secs())?;
        let first_delay = bounded("first_delay_ms", self.first_delay_ms, 600_000)?;
        let longest_delay = bounded("longest_delay_seconds", self.longest_delay_seconds, 86_400)?;
        let give_up_after = bounded("give_up_seconds", self.give_up_seconds, 366 * 86_400)?;
        Ok(Settings {
            allow_http: self.allow_http,
            allow_networks: self.allow_networks.clone(),
            parallel_deliveries: self.parallel_deliveries,
            timeout: Duration::from_secs(timeout),
            first_delay: Duration::from_millis(first_delay),
            longest_delay: Duration::from_secs(longest_delay),
            give_up_after: Duration::from_secs(give_up_after),
        })
    }
}

impl SecretSetting {
    fn secrets(&self, tenants: &[TenantName]) -> Result<Vec<SigningSecret>, Reason> {
        if !tenants.contains(&self.tenant) {
            return Err(Reason::Tenant(self.tenant.clone()));
        }
        if self.files.is_empty() {
            return Err(Reason::NoFile);
        }
        self.files.iter().map(|path| secret(path)).collect()
    }
}

fn secret(path: &Path) -> Result<SigningSecret, Reason> {
    let content = std::fs::read(path).map_err(|source| Reason::Unreadable { path: path.into(), source })?;
    SigningSecret::parse(&content).map_err(|source| Reason::Secret { path: path.into(), source })
}

impl Config {
    /// Returns the signing secrets of webhooks.
    ///
    /// # Errors
    /// Names the secret that cannot be used, and why. No error contains a secret.
    pub fn signing_secrets(&self) -> Result<SigningSecrets, WebhookError> {
        let mut secrets = SigningSecrets::new();
        for (name, setting) in &self.webhooks.secrets {
            let error = |reason| WebhookError { setting: format!("secrets.{name}"), reason };
            let parsed = SecretName::parse(name).map_err(|reason| error(Reason::Name(reason)))?;
            let of_name = setting.secrets(&self.tenants).map_err(error)?;
            secrets.entry(setting.tenant.clone()).or_default().insert(parsed, of_name);
        }
        Ok(secrets)
    }
}

/// Every setting of webhooks but their secrets as a command-line flag.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WebhookFlags {
    /// Deliver to http URLs, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    webhooks_allow_http: Option<bool>,
    /// Networks, with or without a port, to which deliveries may go although they are not public, separated by commas
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    webhooks_allow_networks: Option<Vec<String>>,
    /// Deliveries to webhooks at the same time
    #[arg(long, value_name = "N")]
    webhooks_parallel_deliveries: Option<u64>,
    /// Time limit of a delivery, in seconds
    #[arg(long, value_name = "S")]
    webhooks_timeout_seconds: Option<u64>,
    /// Longest delay before the first retry of a delivery, in milliseconds
    #[arg(long, value_name = "MS")]
    webhooks_first_delay_ms: Option<u64>,
    /// Longest delay before any retry of a delivery, in seconds
    #[arg(long, value_name = "S")]
    webhooks_longest_delay_seconds: Option<u64>,
    /// Time without a success after which a subscription is disabled, in seconds
    #[arg(long, value_name = "S")]
    webhooks_give_up_seconds: Option<u64>,
}

impl WebhookFlags {
    /// Returns the given flags as settings of the section `webhooks`; empty without any.
    pub(super) fn dict(&self) -> Dict {
        let list =
            |words: &Vec<String>| Value::from(words.iter().cloned().map(Value::from).collect::<Vec<_>>());
        let given = [
            ("allow_http", self.webhooks_allow_http.map(Value::from)),
            ("allow_networks", self.webhooks_allow_networks.as_ref().map(list)),
            ("parallel_deliveries", self.webhooks_parallel_deliveries.map(Value::from)),
            ("timeout_seconds", self.webhooks_timeout_seconds.map(Value::from)),
            ("first_delay_ms", self.webhooks_first_delay_ms.map(Value::from)),
            ("longest_delay_seconds", self.webhooks_longest_delay_seconds.map(Value::from)),
            ("give_up_seconds", self.webhooks_give_up_seconds.map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), format!("access.authentication = \"off\"\n{text}")).expect("written");
        Config::read(&Flags::of_file(Some(file.path().to_owned()))).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_deliver_to_public_addresses_over_https_only() {
        let settings = read("").expect("valid").webhooks.settings().expect("within bounds");
        assert!(!settings.allow_http && settings.allow_networks.is_empty());
        assert_eq!(settings.timeout, Duration::from_secs(15));
        assert_eq!(settings.longest_delay, Duration::from_secs(600));
        assert_eq!(settings.give_up_after, Duration::from_secs(86_400));
    }

    #[test]
    fn networks_are_a_list_or_a_text_with_commas() {
        let allowed = |text: &str| read(&format!("webhooks.allow_networks = {text}"));
        let both = allowed(r#"["10.0.0.0/8", "fd00::/8"]"#).expect("valid").webhooks.allow_networks;
        assert_eq!(both.len(), 2);
        assert_eq!(allowed(r#""10.0.0.0/8, fd00::/8""#).expect("valid").webhooks.allow_networks, both);
        assert!(allowed(r#"["10.0.0.1/8"]"#).is_err_and(|error| error.contains("10.0.0.1/8")));
    }

    #[test]
    fn a_setting_out_of_bounds_is_named() {
        for (setting, most) in [("timeout_seconds", 20), ("parallel_deliveries", 10_000)] {
            for value in [0, most + 1] {
                let config = read(&format!("webhooks.{setting} = {value}")).expect("a number");
                let error = config.webhooks.settings().expect_err("out of bounds").to_string();
                assert_eq!(error, format!("webhooks.{setting}: must be from 1 to {most}"));
            }
        }
    }

    #[test]
    fn a_secret_belongs_to_one_tenant_and_may_have_several_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        let (one, other) = (
            file("one", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"),
            file("other", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        );
        let plain = file("plain", "a secret of thirty-two characters");
        let with = |tenant: &str, files: &[&PathBuf]| {
            let text = format!("[webhooks.secrets.chat]\ntenant = {tenant:?}\nfiles = {files:?}\n");
            read(&text).expect("valid").signing_secrets().map_err(|error| error.to_string())
        };

        let secrets = with("default", &[&one, &other]).expect("two secrets");
        let of_tenant = &secrets[&TenantName::default()];
        assert_eq!(of_tenant[&SecretName::parse("chat").expect("a name")].len(), 2);
        for (tenant, files, reason) in [
            ("other", &[&one][..], "tenant other is not one of the tenants"),
            ("default", &[][..], "needs at least one file"),
            ("default", &[&plain][..], "a signing secret is whsec_"),
        ] {
            let error = with(tenant, files).expect_err(reason);
            assert!(error.starts_with("webhooks.secrets.chat: ") && error.contains(reason), "{error}");
            assert!(!error.contains("thirty-two"), "{error}");
        }
    }
}
