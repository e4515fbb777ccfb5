//! Checks of releases, environments and artifacts, and their results.

use std::fmt;

use crate::{Artifact, ConfigDigest, EnvironmentName, LaneRef, Release, ShortText};

/// A run of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The check's name: `smoke`, `e2e`, `canary`, `scan`.
    pub check: ShortText,
    /// The subject of the check.
    pub subject: ValidationSubject,
    /// The name of this run, which its start and its end share.
    pub run: Option<ShortText>,
    /// The evidence, such as reports and logs.
    pub evidence: Vec<Evidence>,
    /// The numbers of cases.
    pub counts: Option<Counts>,
}

/// The subject of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidationSubject {
    /// An artifact, in every lane that runs it.
    Artifact(Artifact),
    /// A lane, with the release and the deployment that were checked, if the report states them.
    Lane {
        /// The lane; without a target, it stands for every lane of the service.
        lane: LaneRef,
        /// The release that was checked.
        release: Option<Release>,
        /// The deployment that was checked.
        deployment: Option<ShortText>,
    },
    /// A whole environment.
    Environment(EnvironmentName),
}

/// A reference to evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The location of the evidence.
    pub uri: ShortText,
    /// The digest of its content, which makes later changes detectable.
    pub digest: Option<ConfigDigest>,
}

/// The numbers of cases of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
    /// Cases that were skipped.
    pub skipped: u64,
}

impl Counts {
    /// Returns true if a check with these counts cannot have passed: a case failed, or none was run.
    #[must_use]
    pub const fn contradict_a_pass(&self) -> bool {
        self.failed > 0 || self.passed == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} cases passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_in_words() {
        let counts = Counts { passed: 11, failed: 2, skipped: 0 };
        assert_eq!(counts.to_string(), "11 cases passed, 2 failed, 0 skipped");
    }
}
