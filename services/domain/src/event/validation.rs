//! What checked a release, and what came of it.

use crate::{Artifact, ConfigDigest, EnvironmentName, LaneRef, Release, ShortText};

/// A check of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The check's name: `smoke`, `e2e`, `canary`, `scan`.
    pub check: ShortText,
    /// What was checked.
    pub subject: ValidationSubject,
    /// The name of this run of the check, which its start and its end share.
    pub run: Option<ShortText>,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// How many cases there were.
    pub counts: Option<Counts>,
}

/// What a check is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidationSubject {
    /// An artifact, wherever it runs.
    Artifact(Artifact),
    /// A lane, with the release and the deployment that were checked, where they are told.
    Lane {
        /// The lane; without a target, every lane of the service.
        lane: LaneRef,
        /// The release that was checked.
        release: Option<Release>,
        /// The deployment that was checked.
        deployment: Option<ShortText>,
    },
    /// A whole environment.
    Environment(EnvironmentName),
}

/// What shows that something is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Where it is.
    pub uri: ShortText,
    /// Its digest, so that it cannot be exchanged.
    pub digest: Option<ConfigDigest>,
}

/// How many cases a check had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
    /// Cases that were not run.
    pub skipped: u64,
}

impl Counts {
    /// Returns true if a check with these counts cannot have passed: a case failed, or none was run.
    #[must_use]
    pub const fn contradict_a_pass(&self) -> bool {
        self.failed > 0 || self.passed == 0
    }
}
