//! Releases: what a lane runs, and when one release is, or may be, another.
//!
//! Decision 0015, section 2, is the specification of `matches` and `contradicts`.

use std::fmt;

use crate::{Artifact, ShortText};

/// What a lane runs. Equality is that of the five texts; whether one is wanted and another runs is [`Release::matches`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// The version, as its builders name it: `v948`.
    pub version: ShortText,
    /// The artifact that was put there.
    pub artifact: Option<Artifact>,
    /// The configuration that it runs with.
    pub config: Option<ConfigDigest>,
    /// The revision of the infrastructure's code: `git:3f2a…`.
    pub infrastructure: Option<ShortText>,
    /// The commit that the version was built from.
    pub commit: Option<ShortText>,
}

impl Release {
    /// A release of which only the version is known.
    #[must_use]
    pub const fn of_version(version: ShortText) -> Self {
        Self { version, artifact: None, config: None, infrastructure: None, commit: None }
    }

    /// Its five parts as text: version, artifact, configuration, infrastructure, commit; empty where one is
    /// not known.
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

    /// Returns true if `running` is what is wanted: every part that this release states equals that of `running`, which may
    /// know more.
    #[must_use]
    pub fn matches(&self, running: &Self) -> bool {
        Part::ALL.iter().all(|part| !self.states(*part) || self.has_same(*part, running))
    }

    /// Returns true if some part that both state differs. What one of them does not state is unknown, not different.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        !self.agrees_in(Part::ALL, other)
    }

    /// Returns true if no part is known of only one of them, and all are equal: artifacts by identity, however they are spelled.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Part::ALL.iter().all(|part| self.has_same(*part, other))
    }

    /// Returns the parts that are not equal; a part that only one of them states is among them.
    #[must_use]
    pub fn differing_parts(&self, other: &Self) -> Vec<Part> {
        Part::ALL.iter().copied().filter(|part| !self.has_same(*part, other)).collect()
    }

    /// Returns true if both agree in these parts. A part that one of them does not state agrees.
    #[must_use]
    pub fn agrees_in(&self, parts: &[Part], other: &Self) -> bool {
        let agrees = |part| !self.states(part) || !other.states(part) || self.has_same(part, other);
        parts.iter().all(|part| agrees(*part))
    }

    /// Returns the release with this artifact, if it states none itself.
    #[must_use]
    pub fn completed(&self, artifact: Option<Artifact>) -> Self {
        Self { artifact: self.artifact.clone().or(artifact), ..self.clone() }
    }

    /// Returns true if the part is known.
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

    /// Returns true if neither states the part, or both state it alike.
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
    /// The revision of the infrastructure's code.
    Infrastructure,
    /// The commit that the version was built from.
    Commit,
}

impl Part {
    /// All parts.
    pub const ALL: &[Self] =
        &[Self::Version, Self::Artifact, Self::Config, Self::Infrastructure, Self::Commit];

    /// Returns the part in words.
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

/// The digest of a configuration: `sha256:` and 64, or `sha512:` and 128 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigDigest(ShortText);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64, or sha512: and 128 lower-case hexadecimal digits")]
pub struct DigestError;

impl ConfigDigest {
    /// Parses a digest.
    ///
    /// # Errors
    /// The text is not one.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        check_digest(text)?;
        ShortText::parse(text).map(Self).map_err(|_| DigestError)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

pub(crate) fn check_digest(text: &str) -> Result<(), DigestError> {
    let digits = match text.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        _ => return Err(DigestError),
    };
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    digits.bytes().all(hexadecimal).then_some(()).ok_or(DigestError)
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

#[cfg(test)]
mod tests;
