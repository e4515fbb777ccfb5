//! Builds of artifacts, their revocation and reinstatement.

use chrono::{DateTime, Utc};

use super::Evidence;
use crate::{Artifact, ShortText};

/// The build of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The artifact that was built.
    pub artifact: Artifact,
    /// The version of the artifact.
    pub version: Option<ShortText>,
    /// The commit that the artifact was built from.
    pub commit: Option<ShortText>,
    /// Time of that commit, from which the lead time is measured.
    pub committed_at: Option<DateTime<Utc>>,
    /// The builder.
    pub builder: Option<ShortText>,
    /// Signed statement about the build, such as SLSA provenance.
    pub provenance: Option<Evidence>,
}

/// The revocation of an artifact: it must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The revoked artifact.
    pub artifact: Artifact,
    /// Public reference to the reason: a CVE, a ticket.
    pub advisory: Option<ShortText>,
    /// True if the artifact was deleted from its registry and can no longer be pulled.
    pub deleted: bool,
}

/// The withdrawal of a revocation: the artifact may be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reinstated {
    /// The artifact.
    pub artifact: Artifact,
}
