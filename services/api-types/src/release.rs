//! Releases.

use ledger_domain::Release;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Release that a lane runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReleaseBody {
    /// Version, as the build names it.
    pub version: String,
    /// Artifact: a package URL, or an OCI reference by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Digest of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Revision of the infrastructure code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<String>,
    /// Commit that the version was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Release, as far as the client can describe it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Version.
    pub version: String,
    /// Artifact: a package URL, or an OCI reference by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Digest of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Revision of the infrastructure code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<String>,
    /// Commit that the version was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl From<&Release> for ReleaseBody {
    fn from(release: &Release) -> Self {
        Self {
            version: release.version.to_string(),
            artifact: release.artifact.as_ref().map(|artifact| artifact.as_str().to_owned()),
            config: release.config.as_ref().map(|config| config.as_str().to_owned()),
            infrastructure: release.infrastructure.as_ref().map(ToString::to_string),
            commit: release.commit.as_ref().map(ToString::to_string),
        }
    }
}
