//! Tests of parsing artifacts and of their identity.

use proptest::prelude::*;

use super::*;

const H: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// Replaces `H` and `OTHER` in a pattern by two digests.
fn text(pattern: &str) -> String {
    pattern.replace("OTHER", OTHER).replace('H', H)
}

fn artifact(pattern: &str) -> Artifact {
    let text = text(pattern);
    Artifact::parse(&text).expect(&text)
}

fn stored(pattern: &str) -> Artifact {
    let text = text(pattern);
    Artifact::stored(&text).expect(&text)
}

#[test]
fn package_urls_and_references_by_digest_are_accepted_and_keep_their_text() {
    for valid in [
        "pkg:cargo/rand@0.9.1",
        "pkg:oci/web@sha256:H",
        "pkg:oci/web@sha256%3AH",
        "pkg:docker/web@v1?checksum=sha256:H",
        "pkg:generic/web@1?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086,sha256:H",
        "sha256:H",
        "registry.example/web@sha256:H",
        "registry.example:5000/web:v1@sha256:H",
    ] {
        let valid = text(valid);
        assert_eq!(Artifact::parse(&valid).as_ref().map(Artifact::as_str), Ok(valid.as_str()));
    }
}

#[test]
fn rule_11_a_tag_in_place_of_a_digest_is_rejected() {
    assert_eq!(Artifact::parse("search-api:latest"), Err(ArtifactError::Neither));
    assert_eq!(Artifact::parse("registry.example/web"), Err(ArtifactError::Neither));
    for (tagged, ty) in [
        ("pkg:oci/web@v1", "oci"),
        ("pkg:oci/web", "oci"),
        ("pkg:oci/web?tag=v1", "oci"),
        ("pkg:docker/web@latest", "docker"),
        ("pkg:docker/web@v1?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086", "docker"),
    ] {
        assert_eq!(Artifact::parse(tagged), Err(ArtifactError::NoDigest(ty.to_owned())), "{tagged}");
    }
    assert!(matches!(Artifact::parse("pkg:nothing"), Err(ArtifactError::PackageUrl(_))));
}

#[test]
fn rule_11_a_shortened_or_upper_case_digest_is_rejected() {
    let upper = H.to_uppercase();
    for malformed in [
        "web@sha256:12",
        "sha256:12",
        "pkg:oci/web@sha256:12",
        "pkg:oci/web@sha256%3A12",
        "pkg:docker/web@sha512:12",
        "pkg:generic/web@1?checksum=sha256:12",
        &format!("pkg:docker/web@sha256:12?checksum=sha256:{H}"),
        &format!("web@sha256:{upper}"),
        &format!("pkg:oci/web@sha256:{upper}"),
        &format!("pkg:oci/web@SHA256:{H}"),
        &format!("pkg:generic/web@1?checksum=sha256:{upper}"),
    ] {
        assert_eq!(Artifact::parse(malformed), Err(ArtifactError::Digest(DigestError)), "{malformed}");
    }
}

#[test]
fn a_stored_artifact_may_have_a_tag_or_a_shortened_digest() {
    for stored in ["pkg:oci/web@v1", "pkg:docker/web@latest", "pkg:oci/web@sha256:12"] {
        assert_eq!(Artifact::stored(stored).as_ref().map(Artifact::as_str), Ok(stored));
    }
    assert_eq!(Artifact::stored("search-api:latest"), Err(ArtifactError::Neither));
}

#[test]
fn rule_11_all_spellings_with_the_same_digest_name_the_same_artifact() {
    let spellings = [
        "pkg:oci/web@sha256:H",
        "pkg:oci/web@sha256%3AH",
        "pkg:oci/web@sha256:H?repository_url=registry.example/web&tag=v1",
        "pkg:docker/team/web@sha256:H",
        "registry.example/web@sha256:H",
        "staging.example/web:v1@sha256:H",
        "sha256:H",
        "pkg:generic/web@1?checksum=sha256:H",
    ];
    for one in spellings.map(artifact) {
        for other in spellings.map(artifact) {
            assert!(one.is_same(&other), "{} {}", one.as_str(), other.as_str());
            assert_eq!(one.identity(), other.identity());
        }
        assert!(!one.is_same(&artifact("sha256:OTHER")));
    }
}

#[test]
fn unless_both_have_digests_the_canonical_package_urls_are_compared() {
    let plain = artifact("pkg:generic/web@1");
    assert!(plain.is_same(&artifact("pkg:generic/web@1?checksum=sha256:H")));
    assert!(plain.is_same(&artifact("pkg://GENERIC/web@1")));
    assert!(!plain.is_same(&artifact("pkg:generic/web@2")));
    assert!(!plain.is_same(&artifact("pkg:generic/web@1?os=linux")));
    assert!(!plain.is_same(&artifact("sha256:H")));
    assert!(stored("pkg:oci/web@v1").is_same(&stored("pkg:OCI/web@v1")));
}

#[test]
fn only_the_version_of_an_image_is_a_digest_of_its_content() {
    assert_eq!(artifact("pkg:generic/web@sha256:H").digest(), None);
    assert_eq!(artifact("pkg:oci/web@sha256:H").digest(), Some(text("sha256:H")));
}

#[test]
fn the_order_of_several_checksums_does_not_matter() {
    let sha512 = format!("sha512:{H}{H}");
    let one = artifact(&format!("pkg:generic/a@1?checksum={sha512},sha256:OTHER"));
    let other = artifact(&format!("pkg:generic/b@1?checksum=sha256:OTHER,{sha512}"));
    assert!(one.is_same(&other));
    assert_eq!(one.identity(), text("sha256:OTHER"));
}

#[test]
fn the_name_is_the_last_segment_of_the_package_or_the_repository() {
    for (pattern, name) in [
        ("pkg:oci/search-api@sha256:H", Some("search-api")),
        ("pkg:docker/team/web@sha256:H", Some("web")),
        ("pkg:golang/google.golang.org/genproto@v0.1.0", Some("genproto")),
        ("registry.example:5000/team/web:v1@sha256:H", Some("web")),
        ("web@sha256:H", Some("web")),
        ("sha256:H", None),
    ] {
        assert_eq!(artifact(pattern).name().as_deref(), name, "{pattern}");
    }
}

fn any_artifact() -> impl Strategy<Value = Artifact> {
    let digest = || prop::sample::select(vec!["H", "OTHER"]);
    let name = || prop::sample::select(vec!["web", "api"]);
    let number = || prop::sample::select(vec!["1", "2"]);
    prop_oneof![
        digest().prop_map(|digest| artifact(&format!("sha256:{digest}"))),
        (name(), digest()).prop_map(|(name, digest)| artifact(&format!("{name}@sha256:{digest}"))),
        (name(), digest()).prop_map(|(name, digest)| artifact(&format!("pkg:oci/{name}@sha256%3A{digest}"))),
        (name(), number()).prop_map(|(name, number)| artifact(&format!("pkg:generic/{name}@{number}"))),
        (name(), number()).prop_map(|(name, number)| stored(&format!("pkg:oci/{name}@{number}"))),
        (name(), number(), digest()).prop_map(|(name, number, digest)| {
            artifact(&format!("pkg:generic/{name}@{number}?os=linux&checksum=sha256:{digest}"))
        }),
        (name(), number(), digest()).prop_map(|(name, number, digest)| {
            artifact(&format!("pkg:generic/{name}@{number}?checksum=sha256:{digest}"))
        }),
    ]
}

proptest! {
    #[test]
    fn artifacts_that_are_the_same_have_a_common_key(one in any_artifact(), other in any_artifact()) {
        prop_assert_eq!(one.is_same(&other), other.is_same(&one));
        prop_assert!(one.is_same(&one));
        if one.is_same(&other) {
            prop_assert!(one.keys().iter().any(|key| other.keys().contains(key)), "{:?} {:?}", one, other);
        }
        prop_assert!((1..=2).contains(&one.keys().len()));
    }

    #[test]
    fn artifacts_with_equal_identities_are_the_same(one in any_artifact(), other in any_artifact()) {
        if one.identity() == other.identity() {
            prop_assert!(one.is_same(&other));
        }
    }
}
