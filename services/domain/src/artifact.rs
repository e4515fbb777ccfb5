//! Artifacts: what a release was built into, and when two texts name the same one.
//!
//! The text stays as it was reported. Everything that compares artifacts (revocation, promotion, holds, drift, the horizon,
//! approvals) uses [`Artifact::is_same`], never the text.
//!
//! Decision 0015, section 2, is the specification.

use std::borrow::Cow;
use std::str::FromStr;

use packageurl::PackageUrl;

use crate::ShortText;
use crate::release::{DigestError, check_digest};

/// A package URL (`pkg:oci/search-api@sha256:…`) or an OCI reference by digest (`sha256:…`,
/// `registry.example/search-api@sha256:…`). Equality is that of the texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Artifact(ShortText);

/// Reason why a text names no artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// It starts with `pkg:` and is not a package URL.
    #[error("is not a package URL: {0}")]
    PackageUrl(String),
    /// It is neither a package URL nor a reference by digest.
    #[error("is neither a package URL (pkg:…) nor an OCI reference by digest (…@sha256:…)")]
    Neither,
    /// It is a package URL of an image without a digest. A tag can move.
    #[error("names an image without its digest; write pkg:{0}/NAME@sha256:…")]
    NoDigest(String),
    /// A digest in it is malformed.
    #[error("has a malformed digest: {0}")]
    Digest(#[from] DigestError),
    /// It is not one line of text.
    #[error(transparent)]
    Text(#[from] crate::TextError),
}

impl Artifact {
    /// Parses a package URL (<https://github.com/package-url/purl-spec>) or an OCI reference by digest.
    ///
    /// # Errors
    /// The text names no artifact, or names one by something that can move: a tag, or a shortened digest.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        ShortText::parse(text)?;
        let artifact = Self::stored(text)?;
        if let Some(purl) = artifact.package_url() {
            for digest in written_digests(&purl) {
                check_digest(digest)?;
            }
            if is_image(&purl) && digest_of(&purl).is_none() {
                return Err(ArtifactError::NoDigest(purl.ty().to_owned()));
            }
        }
        Ok(artifact)
    }

    /// Parses an artifact of an entry that was accepted earlier. It may name an image by a tag.
    ///
    /// # Errors
    /// The text names no artifact.
    pub fn stored(text: &str) -> Result<Self, ArtifactError> {
        let line = ShortText::stored(text)?;
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

    /// Returns the text as it was reported.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the digest of its content, `sha256:…` or `sha512:…`: what follows the `@` of a reference, the version of
    /// an `oci` or `docker` package URL, or a package URL's `checksum` (SHA-256 before SHA-512).
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        match self.package_url() {
            Some(purl) => digest_of(&purl).map(str::to_owned),
            None => self.as_str().rsplit('@').next().filter(|text| is_digest(text)).map(str::to_owned),
        }
    }

    /// Returns its identity: the digest where it has one, else the canonical package URL without `checksum`.
    #[must_use]
    pub fn identity(&self) -> String {
        self.digest().or_else(|| self.canonical()).unwrap_or_else(|| self.as_str().to_owned())
    }

    /// Returns true if both name the same artifact: the digests are equal where both have one; else the canonical package
    /// URLs without `checksum` are.
    ///
    /// Not transitive: a package URL without a checksum is the same as one with any.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        if self.0 == other.0 {
            return true;
        }
        match (self.digest(), other.digest()) {
            (Some(one), Some(other)) => one == other,
            _ => self.canonical().is_some_and(|one| Some(one) == other.canonical()),
        }
    }

    /// Returns the keys by which a database finds it: its digest, and its canonical package URL without `checksum`. Two
    /// artifacts that are the same have a key in common. The converse does not hold: compare what is found by
    /// [`is_same`](Self::is_same).
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys: Vec<String> = self.digest().into_iter().chain(self.canonical()).collect();
        if keys.is_empty() { vec![self.as_str().to_owned()] } else { keys }
    }

    /// Returns the key by which a database finds it beside its [identity](Self::identity): the canonical package URL without
    /// `checksum`, where the identity is the digest of that qualifier. An artifact that states no digest is the same as any of
    /// that package URL.
    #[must_use]
    pub fn package_key(&self) -> Option<String> {
        let purl = self.package_url()?;
        if is_image(&purl) || digest_of(&purl).is_none() {
            return None;
        }
        self.canonical()
    }

    /// Returns its name without registry and namespace: the last segment of a package URL's name or of a repository. A
    /// bare digest has none.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let place = match self.package_url() {
            Some(purl) => Cow::Owned(purl.name().to_owned()),
            None => Cow::Borrowed(self.repository()?),
        };
        place.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The repository of a reference, without its tag.
    pub(crate) fn repository(&self) -> Option<&str> {
        self.place().map(|(repository, _)| repository)
    }

    /// The repository of a reference, and the tag that it also has.
    pub(crate) fn place(&self) -> Option<(&str, Option<&str>)> {
        let (place, _) = self.as_str().rsplit_once('@')?;
        // A colon before the last slash is a port's.
        let name = place.rfind('/').map_or(0, |slash| slash + 1);
        let end = place[name..].find(':').map_or(place.len(), |colon| name + colon);
        Some((&place[..end], place.get(end + 1..)))
    }

    pub(crate) fn package_url(&self) -> Option<PackageUrl<'static>> {
        // The scheme is checked first: parsing fails for a reference anyway, but costs more.
        self.as_str().starts_with("pkg:").then(|| PackageUrl::from_str(self.as_str()).ok())?
    }

    fn canonical(&self) -> Option<String> {
        let purl = self.package_url()?;
        if !purl.qualifiers().contains_key("checksum") {
            return Some(purl.to_string());
        }
        let mut plain = purl.clone();
        plain.clear_qualifiers();
        for (key, value) in purl.qualifiers().iter().filter(|(key, _)| *key != "checksum") {
            plain.add_qualifier(key.clone(), value.clone()).ok()?;
        }
        Some(plain.to_string())
    }
}

fn is_digest(text: &str) -> bool {
    check_digest(text).is_ok()
}

/// A package URL of a kind that is named by the digest of its manifest.
fn is_image(purl: &PackageUrl<'_>) -> bool {
    matches!(purl.ty(), "oci" | "docker")
}

fn checksums<'p>(purl: &'p PackageUrl<'_>) -> impl Iterator<Item = &'p str> {
    purl.qualifiers().get("checksum").map_or("", Cow::as_ref).split(',')
}

fn digest_of<'p>(purl: &'p PackageUrl<'_>) -> Option<&'p str> {
    let version = purl.version().filter(|version| is_image(purl) && is_digest(version));
    version.or_else(|| checksums(purl).filter(|text| is_digest(text)).min_by_key(|text| text.len()))
}

/// What is written as a digest of an algorithm that is known here, well formed or not.
fn written_digests<'p>(purl: &'p PackageUrl<'_>) -> impl Iterator<Item = &'p str> {
    let is_written = |text: &str| {
        let algorithm = text.split_once(':').map(|(algorithm, _)| algorithm.to_ascii_lowercase());
        matches!(algorithm.as_deref(), Some("sha256" | "sha512"))
    };
    purl.version()
        .filter(|_| is_image(purl))
        .into_iter()
        .chain(checksums(purl))
        .filter(move |text| is_written(text))
}

#[cfg(test)]
mod tests;
