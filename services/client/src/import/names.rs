//! Flags that map the names of another tool to those of the ledger.

use ledger_adapters::names::Names;

/// Names of the ledger for those of another tool, and defaults.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct NameFlags {
    /// An environment of the ledger for one of the tool; may be given several times
    #[arg(long = "map-environment", value_name = "THEIRS=OURS", value_parser = pair)]
    environments: Vec<(String, String)>,
    /// A service of the ledger for one of the tool, such as a repository; may be given several times
    #[arg(long = "map-service", value_name = "THEIRS=OURS", value_parser = pair)]
    services: Vec<(String, String)>,
    /// A target of the ledger for one of the tool; may be given several times
    #[arg(long = "map-target", value_name = "THEIRS=OURS", value_parser = pair)]
    targets: Vec<(String, String)>,
    /// The environment where none is named
    #[arg(long, value_name = "NAME")]
    default_environment: Option<String>,
    /// The service where none is named
    #[arg(long, value_name = "NAME")]
    default_service: Option<String>,
    /// The target where none is named
    #[arg(long, value_name = "NAME")]
    default_target: Option<String>,
}

/// Parses `LEFT=RIGHT`; the left part may contain equals signs.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(format!("must have the form A=B, and {text:?} has not")),
    }
}

impl NameFlags {
    pub(super) fn names(self) -> Names {
        Names {
            environments: self.environments.into_iter().collect(),
            services: self.services.into_iter().collect(),
            targets: self.targets.into_iter().collect(),
            default_environment: self.default_environment,
            default_service: self.default_service,
            default_target: self.default_target,
        }
    }
}
