//! Flags that describe a release, besides its version.

use serde_json::{Map, Value};

/// Flags that describe a release, besides its version.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct ReleaseFlags {
    /// The release's artifact: a package URL, or an OCI reference by digest
    #[arg(long, value_name = "ARTIFACT")]
    artifact: Option<String>,
    /// The digest of the release's configuration
    #[arg(long, value_name = "DIGEST")]
    config: Option<String>,
    /// The revision of the infrastructure code
    #[arg(long, value_name = "REVISION")]
    infrastructure: Option<String>,
    /// The commit that the version was built from
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
}

impl ReleaseFlags {
    /// Uses this commit if no flag gives one.
    pub(super) fn or_commit(mut self, commit: Option<String>) -> Self {
        self.commit = self.commit.or(commit);
        self
    }

    /// Returns the members of the release that are given, with its version.
    pub(super) fn members(&self, version: Option<&str>) -> Map<String, Value> {
        let members = [
            ("version", version),
            ("artifact", self.artifact.as_deref()),
            ("config", self.config.as_deref()),
            ("infrastructure", self.infrastructure.as_deref()),
            ("commit", self.commit.as_deref()),
        ];
        members.into_iter().filter_map(|(name, text)| Some((name.into(), text?.into()))).collect()
    }
}
