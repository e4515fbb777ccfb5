//! The container image of a release: its repository, tag and digest, as far as the artifact's text states them. Nothing
//! is guessed.

use crate::digest::check_digest;
use crate::{Artifact, Release};

/// A container image, as a client pulls it: `repository:tag` or `repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// The repository, without tag and digest: `registry.example/search-api`.
    pub repository: Option<String>,
    /// The tag, which can move. If the digest is known, the tag is informative only.
    pub tag: Option<String>,
    /// The digest of the image manifest: `sha256:…`.
    pub digest: Option<String>,
}

impl Image {
    /// Drops the parts that a registry would reject. Returns `None` if neither tag nor digest is left.
    fn validated(self) -> Option<Self> {
        let image = Self {
            repository: self.repository.filter(|repository| is_repository(repository)),
            tag: self.tag.filter(|tag| is_tag(tag)),
            digest: self.digest.filter(|digest| check_digest(digest).is_ok()),
        };
        (image.tag.is_some() || image.digest.is_some()).then_some(image)
    }
}

impl Release {
    /// Returns the image of the release: that of its artifact, with the version as the tag if the artifact names none.
    /// Without an artifact, the version is the tag. Returns `None` if the artifact is not an image, or if neither
    /// digest nor tag is known.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        let image = match &self.artifact {
            Some(artifact) => artifact.image()?,
            None => Image::default(),
        };
        Image { tag: image.tag.or_else(|| Some(self.version.as_str().to_owned())), ..image }.validated()
    }
}

impl Artifact {
    /// Returns the image, not validated; `None` for packages of other types.
    fn image(&self) -> Option<Image> {
        let Some(purl) = self.package_url() else { return Some(self.referenced()) };
        let version = purl.version().map(str::to_owned);
        let repository_url = purl.qualifiers().get("repository_url").map(|url| without_scheme(url));
        match purl.ty() {
            // `repository_url` is the whole repository; without it, the repository is unknown.
            "oci" => Some(Image {
                repository: repository_url.map(str::to_owned),
                tag: purl.qualifiers().get("tag").map(|tag| tag.clone().into_owned()),
                digest: version,
            }),
            // `repository_url` is the registry, and the version is a tag or a digest.
            "docker" => {
                let parts = repository_url.into_iter().chain(purl.namespace()).chain([purl.name()]);
                let repository = Some(parts.collect::<Vec<_>>().join("/"));
                let tag = version.clone().filter(|version| check_digest(version).is_err());
                Some(Image { repository, tag, digest: version })
            }
            _ => None,
        }
    }

    /// Returns the image of `repository:tag@digest`, where all but the digest may be missing.
    fn referenced(&self) -> Image {
        let reference = self.reference();
        Image {
            repository: reference.map(|reference| reference.repository.to_owned()),
            tag: reference.and_then(|reference| reference.tag).map(str::to_owned),
            digest: self.digest(),
        }
    }
}

/// Returns a URL without its scheme and trailing slashes, as registry clients write it.
fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// Checks the characters of a repository; the registry checks the other rules.
fn is_repository(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(is_allowed)
}

/// Checks the grammar of a tag in the OCI distribution specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShortText;

    const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(version: &str, artifact: Option<&str>) -> Release {
        let artifact = artifact.map(|text| Artifact::stored(&text.replace("SHA256", SHA256)).expect(text));
        Release { artifact, ..Release::of_version(ShortText::parse(version).expect("a version")) }
    }

    fn image(repository: Option<&str>, tag: Option<&str>, digest: Option<&str>) -> Option<Image> {
        let [repository, tag, digest] = [repository, tag, digest].map(|part| part.map(str::to_owned));
        Some(Image { repository, tag, digest })
    }

    #[test]
    fn an_image_is_parsed_from_a_reference_by_digest() {
        for (text, repository, tag) in [
            ("SHA256", None, "v1"),
            ("search-api@SHA256", Some("search-api"), "v1"),
            ("registry.example/search-api@SHA256", Some("registry.example/search-api"), "v1"),
            ("registry.example:5000/a/b@SHA256", Some("registry.example:5000/a/b"), "v1"),
            ("registry.example:5000/a/b:rc@SHA256", Some("registry.example:5000/a/b"), "rc"),
        ] {
            assert_eq!(
                release("v1", Some(text)).image(),
                image(repository, Some(tag), Some(SHA256)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_image_is_parsed_from_a_package_url_percent_encoded_or_not() {
        let encoded = SHA256.replace(':', "%3A");
        for (text, repository, tag) in [
            ("pkg:oci/search-api@SHA256", None, "v1"),
            (&format!("pkg:oci/search-api@{encoded}"), None, "v1"),
            ("pkg:oci/a@SHA256?repository_url=registry.example/x/a", Some("registry.example/x/a"), "v1"),
            ("pkg:oci/a@SHA256?repository_url=registry.example%2Fx%2Fa", Some("registry.example/x/a"), "v1"),
            (
                "pkg:oci/a@SHA256?repository_url=https:%2F%2Fr.example%2Fa%2F&tag=rc",
                Some("r.example/a"),
                "rc",
            ),
            ("pkg:docker/search-api@SHA256", Some("search-api"), "v1"),
            ("pkg:docker/x/a@SHA256?repository_url=registry.example", Some("registry.example/x/a"), "v1"),
        ] {
            let found = release("v1", Some(text)).image();
            assert_eq!(found, image(repository, Some(tag), Some(SHA256)), "{text}");
        }
        let tagged = release("12", Some("pkg:docker/search-api@v12"));
        assert_eq!(tagged.image(), image(Some("search-api"), Some("v12"), None));
    }

    #[test]
    fn without_an_artifact_the_version_is_the_tag_if_it_is_a_valid_tag() {
        assert_eq!(release("v1.2-rc_1", None).image(), image(None, Some("v1.2-rc_1"), None));
        for version in ["v1+build", "v948 (rc 1)", ".1", "-1", "ä", &"x".repeat(129)] {
            assert_eq!(release(version, None).image(), None, "{version}");
        }
        assert_eq!(release("v1+build", Some("SHA256")).image(), image(None, None, Some(SHA256)));
    }

    #[test]
    fn packages_of_other_types_have_no_image() {
        assert_eq!(release("v1", Some("pkg:cargo/rand@0.9.1")).image(), None);
        assert_eq!(release("v1", Some("pkg:generic/a@SHA256")).image(), None);
    }

    #[test]
    fn an_invalid_repository_is_dropped() {
        let invalid = release("v1", Some("a b: {}@SHA256"));
        assert_eq!(invalid.image().and_then(|image| image.repository), None);
    }

    #[test]
    fn every_artifact_that_states_a_digest_has_one() {
        for (text, has_digest) in [
            ("SHA256", true),
            ("registry.example/search-api:v1@SHA256", true),
            ("pkg:oci/search-api@SHA256", true),
            ("pkg:generic/a@1?checksum=SHA256", true),
            ("pkg:generic/a@1?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086,SHA256", true),
            ("pkg:cargo/rand@0.9.1", false),
            ("pkg:oci/search-api@sha256:12", false),
        ] {
            let release = release("v1", Some(text));
            let digest = release.artifact.and_then(|artifact| artifact.digest());
            assert_eq!(digest.as_deref(), has_digest.then_some(SHA256), "{text}");
        }
    }
}
