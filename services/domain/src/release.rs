//! What a lane runs.

use std::fmt;
use std::str::FromStr;

use packageurl::PackageUrl;

use crate::Line;

/// What a lane runs. Two releases are the same when all five parts agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// The version, as its builders name it: `v948`.
    pub version: Line,
    /// The artifact that was put there.
    pub artifact: Option<Artifact>,
    /// The configuration that it runs with.
    pub config: Option<ConfigDigest>,
    /// The revision of the infrastructure's code: `git:3f2a…`.
    pub infrastructure: Option<Line>,
    /// The commit that the version was built from.
    pub commit: Option<Line>,
}

impl Release {
    /// A release of which only the version is known.
    #[must_use]
    pub const fn of_version(version: Line) -> Self {
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
            self.infrastructure.as_ref().map_or("", Line::as_str),
            self.commit.as_ref().map_or("", Line::as_str),
        ]
    }

    /// Whether this release is meant where somebody told of it only `told`: the version, and whatever else
    /// is given, agree.
    #[must_use]
    pub fn is_meant_by(&self, told: &Self) -> bool {
        self.parts().into_iter().zip(told.parts()).all(|(part, told)| told.is_empty() || part == told)
    }
}

/// A package URL (`pkg:oci/search-api@sha256:…`) or an OCI reference by digest (`sha256:…`,
/// `registry.example/search-api@sha256:…`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Artifact(Line);

/// Why a text names no artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// It starts with `pkg:` and is not a package URL.
    #[error("is not a package URL: {0}")]
    PackageUrl(String),
    /// It is neither a package URL nor a reference by digest.
    #[error("is neither a package URL (pkg:…) nor an OCI reference by digest (…@sha256:…)")]
    Neither,
    /// The digest at its end is malformed.
    #[error("has a malformed digest: {0}")]
    Digest(#[from] DigestError),
    /// It is not one line of text.
    #[error(transparent)]
    Text(#[from] crate::TextError),
}

impl Artifact {
    /// Parses a package URL (<https://github.com/package-url/purl-spec>) or an OCI reference by
    /// digest.
    ///
    /// # Errors
    /// Says why the text names no artifact.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        Line::parse(text)?;
        Self::stored(text)
    }

    /// Reads an artifact that was stored, by the rules under which it was recorded.
    ///
    /// # Errors
    /// Says why the text names no artifact.
    pub fn stored(text: &str) -> Result<Self, ArtifactError> {
        let line = Line::stored(text)?;
        if text.starts_with("pkg:") {
            PackageUrl::from_str(text).map_err(|e| ArtifactError::PackageUrl(e.to_string()))?;
        } else {
            let digest = text.rsplit('@').next().unwrap_or(text);
            if digest == text && !text.starts_with("sha256:") && !text.starts_with("sha512:") {
                return Err(ArtifactError::Neither);
            }
            check_digest(digest)?;
        }
        Ok(Self(line))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The digest of a configuration: `sha256:` and 64, or `sha512:` and 128 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigDigest(Line);

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
        Line::parse(text).map(Self).map_err(|_| DigestError)
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
mod tests {
    use super::*;

    const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_artifact_is_a_package_url_or_a_reference_by_digest() {
        let by_digest = format!("registry.example/search-api@{SHA256}");
        let purl = format!("pkg:oci/search-api@{SHA256}");
        for good in ["pkg:cargo/rand@0.9.1", &purl, SHA256, &by_digest] {
            assert_eq!(Artifact::parse(good).as_ref().map(Artifact::as_str), Ok(good));
        }
    }

    #[test]
    fn a_tag_is_not_an_artifact_since_it_can_move() {
        assert_eq!(Artifact::parse("search-api:latest"), Err(ArtifactError::Neither));
        assert!(matches!(Artifact::parse("pkg:nothing"), Err(ArtifactError::PackageUrl(_))));
        assert_eq!(Artifact::parse("a@sha256:12"), Err(ArtifactError::Digest(DigestError)));
    }
}
