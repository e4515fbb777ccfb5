//! Where a version came from, and that it must never be used again.

use chrono::{DateTime, Utc};

use super::Evidence;
use crate::{Artifact, ShortText};

/// A version was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// What was built.
    pub artifact: Artifact,
    /// The version that it carries.
    pub version: Option<ShortText>,
    /// The commit that it was built from.
    pub commit: Option<ShortText>,
    /// When that commit was made: the start of its lead time.
    pub committed_at: Option<DateTime<Utc>>,
    /// Who built it.
    pub builder: Option<ShortText>,
    /// A signed statement about the build, such as SLSA provenance.
    pub provenance: Option<Evidence>,
}

/// An artifact must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// What must not be used.
    pub artifact: Artifact,
    /// Why, as a public reference: a CVE, a ticket.
    pub advisory: Option<ShortText>,
    /// Whether it is gone from its registry, so that nobody could use it.
    pub deleted: bool,
}

/// A revocation is withdrawn: the artifact may be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reinstated {
    /// The artifact.
    pub artifact: Artifact,
}
