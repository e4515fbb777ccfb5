//! Settings of messages from and to NATS.

use std::num::NonZeroU64;

use figment::value::Value;
use ledger_domain::TenantName;
use serde::{Deserialize, Deserializer};

use super::{Error, lists};

/// Settings of messages from and to NATS, over the servers of the journal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    /// Tenants whose ledgers record messages from NATS.
    #[serde(deserialize_with = "some_tenants")]
    pub ingest_tenants: Vec<TenantName>,
    /// Maximum size of the work queue of each of these tenants, in bytes, when it is created.
    pub queue_bytes: NonZeroU64,
    /// Tenants whose entries are published.
    #[serde(deserialize_with = "some_tenants")]
    pub publish_tenants: Vec<TenantName>,
}

fn some_tenants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TenantName>, D::Error> {
    let names = lists::words(deserializer)?;
    let parsed = names.iter().map(|name| TenantName::parse(name));
    parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

impl Nats {
    /// Checks that the service serves the tenants.
    pub(super) fn check(&self, served: &[TenantName]) -> Result<(), Error> {
        let lists =
            [("nats.ingest_tenants", &self.ingest_tenants), ("nats.publish_tenants", &self.publish_tenants)];
        for (setting, tenants) in lists {
            if let Some(unknown) = tenants.iter().find(|tenant| !served.contains(tenant)) {
                return Err(Error::UnknownTenant(setting, unknown.clone()));
            }
        }
        Ok(())
    }
}

/// Flags of messages from and to NATS.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct NatsFlags {
    /// Tenants whose ledgers record messages from NATS, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    nats_ingest_tenants: Option<Vec<String>>,
    /// Maximum size of the work queue of each of these tenants, in bytes
    #[arg(long, value_name = "BYTES")]
    nats_queue_bytes: Option<u64>,
    /// Tenants whose entries are published to NATS, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    nats_publish_tenants: Option<Vec<String>>,
}

impl NatsFlags {
    /// Returns the given flags as settings of `nats`.
    pub(super) fn given(&self) -> [(&'static str, &'static str, Option<Value>); 3] {
        let list = |words: &Option<Vec<String>>| {
            let words = words.as_ref()?;
            Some(Value::from(words.iter().cloned().map(Value::from).collect::<Vec<_>>()))
        };
        [
            ("nats", "ingest_tenants", list(&self.nats_ingest_tenants)),
            ("nats", "queue_bytes", self.nats_queue_bytes.map(Value::from)),
            ("nats", "publish_tenants", list(&self.nats_publish_tenants)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::super::{Config, Flags};
    use super::*;

    fn read(flags: &[&str]) -> Result<Nats, String> {
        let own = ["serve", "--access-authentication=off"];
        let matches =
            Flags::augment_args(clap::Command::new("serve")).get_matches_from(own.iter().chain(flags));
        let flags = Flags::from_arg_matches(&matches).expect("flags of serve");
        Config::read(&flags).map(|config| config.nats).map_err(|error| error.to_string())
    }

    #[test]
    fn messages_are_neither_recorded_nor_published_by_default() {
        let nats = read(&[]).expect("valid defaults");
        assert!(nats.ingest_tenants.is_empty() && nats.publish_tenants.is_empty());
    }

    #[test]
    fn a_tenant_that_is_not_served_is_named() {
        let acme = TenantName::parse("acme").expect("a name");
        let served = read(&["--tenants=default,acme", "--nats-ingest-tenants=acme"]).expect("valid settings");
        assert_eq!(served.ingest_tenants, [acme]);
        let error = read(&["--nats-publish-tenants=acme"]).expect_err("rejected");
        assert_eq!(error, "nats.publish_tenants: tenant acme is not one of the tenants in the settings");
    }

    #[test]
    fn a_queue_without_any_size_is_rejected() {
        assert!(read(&["--nats-queue-bytes=0"]).is_err());
    }
}
