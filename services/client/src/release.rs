//! Releases: as flags, and in the bodies of the service.

use ledger_api_types::{ReleaseBody, ReleaseRequest};
use ledger_domain::{Artifact, ConfigDigest, EnvironmentName, Release, ServiceName, ShortText, TargetName};
use serde_json::{Map, Value};

/// A deploy that a command is about: a release in a lane.
#[derive(Debug, clap::Args)]
pub(super) struct DeployArgs {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub(super) environment: EnvironmentName,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(super) service: ServiceName,
    /// The version
    #[arg(value_name = "VERSION")]
    pub(super) version: String,
    /// The target [default: every target at which the service runs]
    #[arg(long, value_name = "NAME")]
    pub(super) target: Option<TargetName>,
    #[command(flatten)]
    pub(super) release: ReleaseFlags,
}

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

    /// Uses the parts of a planned release that no flag gives.
    pub(super) fn or_planned(mut self, planned: &ReleaseBody) -> Self {
        self.artifact = self.artifact.or_else(|| planned.artifact.clone());
        self.config = self.config.or_else(|| planned.config.clone());
        self.infrastructure = self.infrastructure.or_else(|| planned.infrastructure.clone());
        self.commit = self.commit.or_else(|| planned.commit.clone());
        self
    }

    /// Removes the artifact and returns it, for an event whose subject is the artifact.
    pub(super) fn take_artifact(&mut self) -> Option<String> {
        self.artifact.take()
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

    /// Returns the release of this version as a request describes it.
    pub(super) fn request(&self, version: &str) -> ReleaseRequest {
        let Self { artifact, config, infrastructure, commit } = self.clone();
        ReleaseRequest { version: version.to_owned(), artifact, config, infrastructure, commit }
    }
}

/// Parses a release of the service.
pub(super) fn parse_release(body: &ReleaseBody) -> anyhow::Result<Release> {
    let text = |text: &Option<String>| text.as_deref().map(ShortText::parse).transpose();
    Ok(Release {
        version: ShortText::parse(&body.version)?,
        artifact: body.artifact.as_deref().map(Artifact::parse).transpose()?,
        config: body.config.as_deref().map(ConfigDigest::parse).transpose()?,
        infrastructure: text(&body.infrastructure)?,
        commit: text(&body.commit)?,
    })
}

/// Returns the version of the release, or `-` if there is none.
pub(super) fn version(release: Option<&ReleaseBody>) -> String {
    release.map_or_else(|| "-".to_owned(), |release| release.version.clone())
}
