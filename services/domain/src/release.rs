//! Releases, and the rules by which two of them match or contradict each other.
//!
//! Decision 0015, section 2, is the specification of `matches` and `contradicts`.

use std::fmt;

use crate::{Artifact, ConfigDigest, ShortText};

/// A release: a version with its artifact, configuration, infrastructure and commit, as far as they are known.
///
/// `==` compares the five texts; [`Release::matches`] compares a wanted release with a running one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// The version, as its builder names it: `v948`.
    pub version: ShortText,
    /// The artifact that was deployed.
    pub artifact: Option<Artifact>,
    /// The digest of the configuration.
    pub config: Option<ConfigDigest>,
    /// The revision of the infrastructure code: `git:3f2a…`.
    pub infrastructure: Option<ShortText>,
    /// The commit that the version was built from.
    pub commit: Option<ShortText>,
}

impl Release {
    /// Creates a release that states only its version.
    #[must_use]
    pub const fn of_version(version: ShortText) -> Self {
        Self { version, artifact: None, config: None, infrastructure: None, commit: None }
    }

    /// Returns the five parts as text: version, artifact, configuration, infrastructure, commit. Unknown parts are empty.
    #[must_use]
    pub fn parts(&self) -> [&str; 5] {
        [
            self.version.as_str(),
            self.artifact.as_ref().map_or("", Artifact::as_str),
            self.config.as_ref().map_or("", ConfigDigest::as_str),
            self.infrastructure.as_ref().map_or("", ShortText::as_str),
            self.commit.as_ref().map_or("", ShortText::as_str),
        ]
    }

    /// Returns true if `running` satisfies this wanted release: every part that this release states equals that of
    /// `running`, which may state more.
    #[must_use]
    pub fn matches(&self, running: &Self) -> bool {
        Part::ALL.iter().all(|part| !self.states(*part) || self.has_same(*part, running))
    }

    /// Returns true if some part that both state differs. A part that only one states is unknown, not different.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        !self.agrees_in(Part::ALL, other)
    }

    /// Returns true if one of the two [matches](Self::matches) the other.
    #[must_use]
    pub fn either_matches(&self, other: &Self) -> bool {
        self.matches(other) || other.matches(self)
    }

    /// Returns true if both state the same parts, and all are equal. Artifacts are compared by identity.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Part::ALL.iter().all(|part| self.has_same(*part, other))
    }

    /// Returns the parts that are not equal, including those that only one of them states.
    #[must_use]
    pub fn differing_parts(&self, other: &Self) -> Vec<Part> {
        Part::ALL.iter().copied().filter(|part| !self.has_same(*part, other)).collect()
    }

    /// Returns true if both agree in these parts. A part agrees if one of them does not state it.
    #[must_use]
    pub fn agrees_in(&self, parts: &[Part], other: &Self) -> bool {
        let agrees = |part| !self.states(part) || !other.states(part) || self.has_same(part, other);
        parts.iter().all(|part| agrees(*part))
    }

    /// Returns the release, with this artifact if it states none itself.
    #[must_use]
    pub fn completed(&self, artifact: Option<Artifact>) -> Self {
        Self { artifact: self.artifact.clone().or(artifact), ..self.clone() }
    }

    /// Returns true if the release states the part.
    #[must_use]
    pub const fn states(&self, part: Part) -> bool {
        match part {
            Part::Version => true,
            Part::Artifact => self.artifact.is_some(),
            Part::Config => self.config.is_some(),
            Part::Infrastructure => self.infrastructure.is_some(),
            Part::Commit => self.commit.is_some(),
        }
    }

    /// Returns true if neither states the part, or both state the same value.
    #[must_use]
    pub fn has_same(&self, part: Part, other: &Self) -> bool {
        match part {
            Part::Version => self.version == other.version,
            Part::Artifact => match (&self.artifact, &other.artifact) {
                (Some(one), Some(other)) => one.is_same(other),
                (one, other) => one.is_none() && other.is_none(),
            },
            Part::Config => self.config == other.config,
            Part::Infrastructure => self.infrastructure == other.infrastructure,
            Part::Commit => self.commit == other.commit,
        }
    }
}

/// A part of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The version.
    Version,
    /// The artifact, compared by its identity.
    Artifact,
    /// The digest of the configuration.
    Config,
    /// The revision of the infrastructure code.
    Infrastructure,
    /// The commit that the version was built from.
    Commit,
}

impl Part {
    /// All parts.
    pub const ALL: &[Self] =
        &[Self::Version, Self::Artifact, Self::Config, Self::Infrastructure, Self::Commit];

    /// Returns the name of the part for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Artifact => "artifact",
            Self::Config => "configuration",
            Self::Infrastructure => "infrastructure",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

#[cfg(test)]
mod tests;
