//! Settings that are lists.

use ledger_api::AllowedHosts;
use ledger_domain::TenantName;
use serde::{Deserialize, Deserializer};

/// Reads words from a list, or from a text with commas: a variable of the environment.
pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::List(words) => words,
        Words::Text(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
    })
}

/// Reads the names of tenants from a list.
pub(super) fn tenants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TenantName>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let parsed = names.iter().map(|name| TenantName::parse(name));
    parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

/// Reads hosts from a list, or from a text with commas.
pub(super) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AllowedHosts, D::Error> {
    let words = words(deserializer)?;
    AllowedHosts::parse(words.iter().map(String::as_str)).map_err(serde::de::Error::custom)
}
