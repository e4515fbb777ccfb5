//! The release that an event names: `artifactId`, and keys of `customData`.

use std::str::FromStr as _;

use ledger_domain::{Artifact, ArtifactError, ConfigDigest, ShortText};
use packageurl::PackageUrl;
use serde_json::Value;

use super::custom_data::CustomData;
use super::native::Data;
use crate::translation::NotUnderstood;

/// An artifact id, as far as it names something of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The artifact, if the id pins one.
    pub(super) artifact: Option<String>,
    /// The version in the id, if it has one.
    pub(super) version: Option<String>,
    /// True if the version is nothing but the digest of the artifact.
    is_digest: bool,
}

impl Reference {
    /// Returns the version that the builders gave, as far as the id has one.
    pub(super) fn named_version(self) -> Option<String> {
        self.version.filter(|_| !self.is_digest)
    }
}

/// Reads an artifact id: a package URL, an OCI reference, or any other text.
///
/// - What pins an artifact (a package URL, of an image with its digest; an OCI reference by digest) is that artifact.
/// - A package URL of an image without a digest has only a version: a tag can move.
/// - Other text is a version, and no artifact.
///
/// # Errors
/// The id has the form of a package URL or of a digest and is none: a version made of it could be mistaken for it.
pub(super) fn reference(id: &str, at: &str) -> Result<Reference, NotUnderstood> {
    let invalid = |detail: String| NotUnderstood::new(at, detail);
    match Artifact::parse(id) {
        Ok(artifact) => {
            let digest = artifact.digest();
            let version = if id.starts_with("pkg:") { purl_version(id) } else { tag(id) };
            let version = version.or_else(|| digest.clone());
            let is_digest = version.is_some() && version == digest;
            Ok(Reference { artifact: Some(id.to_owned()), version, is_digest })
        }
        Err(ArtifactError::NoDigest(_)) => {
            Ok(Reference { artifact: None, version: purl_version(id), is_digest: false })
        }
        Err(error) if has_form_of_artifact(id) => Err(invalid(error.to_string())),
        Err(_) => {
            let version = ShortText::parse(id).map_err(|error| invalid(error.to_string()))?;
            Ok(Reference { artifact: None, version: Some(version.as_str().to_owned()), is_digest: false })
        }
    }
}

/// Returns true for text that starts as a package URL or contains what starts as a digest.
fn has_form_of_artifact(id: &str) -> bool {
    let id = id.to_ascii_lowercase();
    id.starts_with("pkg:") || ["sha256:", "sha512:"].iter().any(|algorithm| id.contains(algorithm))
}

/// Returns the version of a package URL: that of an image is its tag, if the URL names it.
fn purl_version(id: &str) -> Option<String> {
    let purl = PackageUrl::from_str(id).ok()?;
    let tag = purl.qualifiers().get("tag").filter(|tag| purl.ty() == "oci" && is_version(tag));
    tag.map(|tag| tag.to_string()).or_else(|| purl.version().map(str::to_owned))
}

/// Returns true for a tag that can be the name of a version: `latest` is that of any.
fn is_version(tag: &str) -> bool {
    !tag.is_empty() && tag != "latest"
}

/// Returns the tag of an OCI reference by digest: `registry.example:5000/search-api:v948@sha256:…`.
fn tag(id: &str) -> Option<String> {
    let (path, _) = id.rsplit_once('@')?;
    let name = path.rsplit('/').next()?;
    name.split_once(':').map(|(_, tag)| tag.to_owned()).filter(|tag| is_version(tag))
}

/// Returns the release of a service: the artifact of its id, and the version, the commit and the digest of the
/// configuration in `customData`. A version in `customData` has precedence over that of the id.
pub(super) fn release(id: Option<&str>, at: &str, custom: &CustomData) -> Result<Value, NotUnderstood> {
    let found = id.map(|id| reference(id, at)).transpose()?;
    let (artifact, in_id) = found.map_or((None, None), |found| (found.artifact, found.version));
    let named = custom.parsed_scope("version", ShortText::parse)?.map(|version| version.as_str().to_owned());
    let version = named
        .or(in_id)
        .ok_or_else(|| NotUnderstood::new(at, "names no version; add it, or send customData.version"))?;
    ShortText::parse(&version).map_err(|error| NotUnderstood::new(at, error.to_string()))?;
    let commit = custom.line("commit")?;
    let config = custom.parsed("configDigest", ConfigDigest::parse)?;
    let release = Data::default()
        .put("version", version)
        .optional("artifact", artifact)
        .optional("config", config.as_ref().map(ConfigDigest::as_str))
        .optional("commit", commit.as_ref().map(ShortText::as_str));
    Ok(Value::Object(release.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";

    fn parts(id: &str) -> (Option<String>, Option<String>) {
        let found = reference(&id.replace("DIGEST", DIGEST), "").expect("an id");
        let short = |text: String| text.replace(DIGEST, "DIGEST");
        (found.artifact.map(short), found.version.map(short))
    }

    #[test]
    fn an_id_is_an_artifact_only_if_it_pins_one() {
        for (id, is_artifact, version) in [
            ("pkg:oci/search-api@DIGEST", true, "DIGEST"),
            ("pkg:oci/search-api@DIGEST?tag=v948", true, "v948"),
            ("pkg:oci/search-api@DIGEST?tag=latest", true, "DIGEST"),
            ("registry.example/search-api:latest@DIGEST", true, "DIGEST"),
            ("pkg:golang/git.example/search@v1.2.0", true, "v1.2.0"),
            ("pkg:npm/%40shop/search@1.2.0", true, "1.2.0"),
            ("registry.example:5000/search-api@DIGEST", true, "DIGEST"),
            ("registry.example:5000/search-api:v948@DIGEST", true, "v948"),
            ("DIGEST", true, "DIGEST"),
            ("pkg:oci/search-api@v948", false, "v948"),
            ("pkg:docker/shop/search-api@v948", false, "v948"),
            ("search-api:v948", false, "search-api:v948"),
            ("ops@v948", false, "ops@v948"),
            ("v948", false, "v948"),
        ] {
            let artifact = is_artifact.then(|| id.to_owned());
            assert_eq!(parts(id), (artifact, Some(version.to_owned())), "{id}");
        }
        assert_eq!(parts("pkg:golang/git.example/search").1, None);
        assert_eq!(parts("pkg:oci/search-api").1, None);
    }

    #[test]
    fn an_id_that_is_almost_an_artifact_is_rejected() {
        for id in [
            "pkg:",
            "pkg:oci",
            "PKG:oci/search-api@v1",
            "pkg:oci/search-api@sha256:1e69",
            "search-api@sha256:1e69",
            "sha256:1e69",
            "search-api@SHA256:1e69",
            " v948",
            "v948\n",
            "v9\u{200b}48",
        ] {
            assert!(reference(id, "/subject/content/artifactId").is_err(), "{id:?}");
        }
    }
}
