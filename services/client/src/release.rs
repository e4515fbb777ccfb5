//! What is told of a release besides its version, as flags.

use serde_json::{Map, Value};

/// What is told of a release besides its version.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct ReleaseFlags {
    /// The release's artifact: a package URL, or an OCI reference by digest
    #[arg(long, value_name = "ARTIFACT")]
    artifact: Option<String>,
    /// The digest of the release's configuration
    #[arg(long, value_name = "DIGEST")]
    config: Option<String>,
    /// The revision of the infrastructure's code
    #[arg(long, value_name = "REVISION")]
    infrastructure: Option<String>,
    /// The commit that the version was built from
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
}

impl ReleaseFlags {
    /// The same, with this commit if no flag tells one.
    pub(super) fn or_commit(mut self, commit: Option<String>) -> Self {
        self.commit = self.commit.or(commit);
        self
    }

    /// The members of the release that are told, with its version.
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
