//! Artifacts: references to builds, and the rule by which two references name the same build.
//!
//! An artifact keeps its text as reported. Every rule that compares artifacts (revocation, promotion, holds, drift, the
//! rollback horizon, approvals) uses [`Artifact::is_same`], never the text.
//!
//! Decision 0015, section 2, is the specification.

use std::borrow::Cow;
use std::str::FromStr;

use packageurl::PackageUrl;

use crate::ShortText;
use crate::digest::{DigestError, check_digest};
use crate::image_reference::ImageReference;

/// A package URL (`pkg:oci/search-api@sha256:…`) or an OCI reference by digest (`sha256:…`,
/// `registry.example/search-api@sha256:…`). `==` compares the texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Artifact(ShortText);

/// Reason why a text is not an artifact. The message continues the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// The text starts with `pkg:` but is not a package URL.
    #[error("is not a package URL: {0}")]
    PackageUrl(String),
    /// The text is neither a package URL nor a reference by digest.
    #[error("is neither a package URL (pkg:…) nor an OCI reference by digest (…@sha256:…)")]
    Neither,
    /// The text is a package URL of an image without a digest. A tag can move.
    #[error("names an image without its digest; write pkg:{0}/NAME@sha256:…")]
    NoDigest(String),
    /// A digest in the text is malformed.
    #[error("has a malformed digest: {0}")]
    Digest(#[from] DigestError),
    /// The text is not a valid [`ShortText`].
    #[error(transparent)]
    Text(#[from] crate::TextError),
}

impl Artifact {
    /// Parses a package URL (<https://github.com/package-url/purl-spec>) or an OCI reference by digest.
    ///
    /// # Errors
    /// The text is not an artifact, or does not pin one: it has a tag or a shortened digest in place of a digest.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        ShortText::parse(text)?;
        let artifact = Self::stored(text)?;
        if let Some(purl) = artifact.package_url() {
            for digest in stated_digests(&purl) {
                check_digest(digest)?;
            }
            if is_image(&purl) && digest_of(&purl).is_none() {
                return Err(ArtifactError::NoDigest(purl.ty().to_owned()));
            }
        }
        Ok(artifact)
    }

    /// Parses the artifact of a stored entry. It may name an image by a tag, which was not always rejected.
    ///
    /// # Errors
    /// The text is not an artifact.
    pub fn stored(text: &str) -> Result<Self, ArtifactError> {
        let parsed = ShortText::stored(text)?;
        if text.starts_with("pkg:") {
            PackageUrl::from_str(text).map_err(|e| ArtifactError::PackageUrl(e.to_string()))?;
        } else {
            let digest = text.rsplit('@').next().unwrap_or(text);
            if digest == text && !text.starts_with("sha256:") && !text.starts_with("sha512:") {
                return Err(ArtifactError::Neither);
            }
            check_digest(digest)?;
        }
        Ok(Self(parsed))
    }

    /// Returns the text as reported.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the digest of the content, `sha256:…` or `sha512:…`: the part of a reference after the `@`, the version
    /// of an `oci` or `docker` package URL, or the `checksum` of a package URL (SHA-256 in preference to SHA-512).
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        match self.package_url() {
            Some(purl) => digest_of(&purl).map(str::to_owned),
            None => self.as_str().rsplit('@').next().filter(|text| is_digest(text)).map(str::to_owned),
        }
    }

    /// Returns the identity: the digest if there is one, else the canonical package URL without `checksum`.
    #[must_use]
    pub fn identity(&self) -> String {
        self.digest().or_else(|| self.canonical()).unwrap_or_else(|| self.as_str().to_owned())
    }

    /// Returns true if both name the same artifact. If both have a digest, the digests are compared; otherwise the
    /// canonical package URLs without `checksum` are.
    ///
    /// Not transitive: a package URL without a checksum is the same as that URL with any checksum.
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

    /// Returns the keys for database lookups: the digest, and the canonical package URL without `checksum`. Artifacts
    /// that are the same have a key in common. The converse does not hold: filter the rows found with
    /// [`is_same`](Self::is_same).
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys: Vec<String> = self.digest().into_iter().chain(self.canonical()).collect();
        if keys.is_empty() { vec![self.as_str().to_owned()] } else { keys }
    }

    /// Returns the second lookup key beside the [identity](Self::identity), if there is one: the canonical package URL
    /// without `checksum`, if the identity is the digest in that qualifier. An artifact that states no digest is the
    /// same as every artifact with that package URL.
    #[must_use]
    pub fn package_key(&self) -> Option<String> {
        let purl = self.package_url()?;
        if is_image(&purl) || digest_of(&purl).is_none() {
            return None;
        }
        self.canonical()
    }

    /// Returns the canonical package URL if the artifact states no digest: it is the same as every artifact with this
    /// [package key](Self::package_key).
    #[must_use]
    pub fn key_of_any_checksum(&self) -> Option<String> {
        if self.digest().is_some() { None } else { self.canonical() }
    }

    /// Returns the name without registry and namespace: the last segment of a package URL's name or of a repository.
    /// Returns `None` for a bare digest.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let path = match self.package_url() {
            Some(purl) => Cow::Owned(purl.name().to_owned()),
            None => Cow::Borrowed(self.reference()?.repository),
        };
        path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Returns the parts of a reference; `None` for a bare digest.
    pub(crate) fn reference(&self) -> Option<ImageReference<'_>> {
        let reference = ImageReference::split(self.as_str());
        reference.digest.is_some().then_some(reference)
    }

    pub(crate) fn package_url(&self) -> Option<PackageUrl<'static>> {
        // Check the scheme first: it is cheaper than a parse that fails.
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

/// Returns true for package URLs of container images, which are identified by the digest of their manifest.
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

/// Returns the texts in the form of a SHA-256 or SHA-512 digest, valid or not.
fn stated_digests<'p>(purl: &'p PackageUrl<'_>) -> impl Iterator<Item = &'p str> {
    let is_stated = |text: &str| {
        let algorithm = text.split_once(':').map(|(algorithm, _)| algorithm.to_ascii_lowercase());
        matches!(algorithm.as_deref(), Some("sha256" | "sha512"))
    };
    purl.version()
        .filter(|_| is_image(purl))
        .into_iter()
        .chain(checksums(purl))
        .filter(move |text| is_stated(text))
}

#[cfg(test)]
mod tests;
