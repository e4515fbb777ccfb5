//! Settings of webhooks and CDEvents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use ledger_adapters::hooks::{InvalidSettings, Secret, SecretError, Webhook, WebhookSettings};
use ledger_api::TenantWebhook;
use ledger_domain::{NameError, TenantName};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Config;

/// The table `hooks.NAME` of a webhook: where its events go, the files of its secrets, and the settings of its tool.
#[derive(Debug, Clone)]
pub struct WebhookTable {
    tenant: TenantName,
    secret_files: Vec<PathBuf>,
    settings: WebhookSettings,
}

/// Reason why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("hooks.{hook}: {reason}")]
pub struct HookError {
    hook: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("the name is not valid: {0}")]
    Name(NameError),
    #[error("tenant {0} is not one of the tenants in the settings")]
    Tenant(TenantName),
    #[error("cannot read the secret in {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the secret in {path} cannot be used: {source}")]
    Secret { path: PathBuf, source: SecretError },
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
}

impl<'de> Deserialize<'de> for WebhookTable {
    /// Takes `tenant` and `secret_files` out, and leaves the rest to the tool's settings, so that each rejects members
    /// that it does not know.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Dict::deserialize(deserializer)?;
        let tenant = match members.remove("tenant") {
            Some(value) => {
                let name: String = value.deserialize().map_err(D::Error::custom)?;
                TenantName::parse(&name).map_err(|error| D::Error::custom(format!("tenant: {error}")))?
            }
            None => TenantName::default(),
        };
        let secret_files = match members.remove("secret_files") {
            Some(value) => value.deserialize().map_err(D::Error::custom)?,
            None => Vec::new(),
        };
        let settings = Value::from(members).deserialize().map_err(D::Error::custom)?;
        Ok(Self { tenant, secret_files, settings })
    }
}

impl WebhookTable {
    /// Returns the settings of the tool.
    #[must_use]
    pub const fn settings(&self) -> &WebhookSettings {
        &self.settings
    }

    fn webhook(&self, name: &str, tenants: &[TenantName]) -> Result<TenantWebhook, Reason> {
        // The name is a part of a URL and of the events' sender, like that of a tenant.
        TenantName::parse(name).map_err(Reason::Name)?;
        if !tenants.contains(&self.tenant) {
            return Err(Reason::Tenant(self.tenant.clone()));
        }
        let secrets = self.secret_files.iter().map(|path| secret(path)).collect::<Result<_, _>>()?;
        let webhook = Webhook::new(self.settings.clone(), secrets)?;
        Ok(TenantWebhook { tenant: self.tenant.clone(), webhook })
    }
}

fn secret(path: &Path) -> Result<Secret, Reason> {
    let content = std::fs::read(path).map_err(|source| Reason::Unreadable { path: path.into(), source })?;
    Secret::parse(&content).map_err(|source| Reason::Secret { path: path.into(), source })
}

impl Config {
    /// Returns the webhooks that the service accepts, with their secrets.
    ///
    /// # Errors
    /// Names the webhook that cannot be used, and why.
    pub fn hooks(&self) -> Result<BTreeMap<String, TenantWebhook>, HookError> {
        let hook = |(name, table): (&String, &WebhookTable)| match table.webhook(name, &self.tenants) {
            Ok(hook) => Ok((name.clone(), hook)),
            Err(reason) => Err(HookError { hook: name.clone(), reason }),
        };
        self.hooks.iter().map(hook).collect()
    }
}
