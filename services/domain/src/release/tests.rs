//! Tests of matching and contradicting releases.

use proptest::prelude::*;

use super::*;

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a valid text")
}

fn v1() -> Release {
    Release::of_version(short_text("v1"))
}

fn with_artifact(text: &str) -> Release {
    Release { artifact: Some(Artifact::parse(text).expect("an artifact")), ..v1() }
}

fn with_commit(text: &str) -> Release {
    Release { commit: Some(short_text(text)), ..v1() }
}

fn with_config(text: &str) -> Release {
    Release { config: Some(ConfigDigest::parse(text).expect("a digest")), ..v1() }
}

#[test]
fn rule_12_the_running_release_may_state_more_than_the_wanted_one() {
    assert!(v1().matches(&with_commit("c0ffee")));
    assert!(v1().matches(&with_artifact(D1)));
    assert!(!with_commit("c0ffee").matches(&v1()));
    assert!(!with_commit("c0ffee").matches(&with_commit("c0de")));
    assert!(!v1().matches(&Release::of_version(short_text("v2"))));
}

#[test]
fn rule_12_artifacts_match_by_identity() {
    let wanted = with_artifact(&format!("pkg:oci/web@{D1}"));
    assert!(wanted.matches(&with_artifact(&format!("prod.example/web@{D1}"))));
    assert!(!wanted.matches(&with_artifact(D2)));
}

#[test]
fn a_part_that_is_not_stated_does_not_contradict() {
    assert!(!v1().contradicts(&with_artifact(D1)));
    assert!(!with_artifact(D1).contradicts(&with_commit("c0ffee")));
    assert!(with_artifact(D1).contradicts(&with_artifact(D2)));
    assert!(v1().contradicts(&Release::of_version(short_text("v2"))));
}

#[test]
fn a_part_that_only_one_states_differs_and_yet_agrees() {
    let (left, restored) = (with_config(D2), with_config(D1));
    assert_eq!(left.differing_parts(&restored), [Part::Config]);
    assert_eq!(left.differing_parts(&v1()), [Part::Config]);
    assert_eq!(left.differing_parts(&left), []);
    assert!(v1().agrees_in(&[Part::Config], &left));
    assert!(!restored.agrees_in(&[Part::Config], &left));
    assert!(restored.agrees_in(&[Part::Version], &left));
}

#[test]
fn completing_a_release_keeps_the_artifact_that_it_states() {
    let artifact = with_artifact(D1).artifact;
    assert_eq!(v1().completed(artifact.clone()), with_artifact(D1));
    assert_eq!(with_artifact(D2).completed(artifact), with_artifact(D2));
    assert_eq!(v1().completed(None), v1());
}

fn any_release() -> impl Strategy<Value = Release> {
    let artifact = prop::sample::select(vec![
        None,
        Some("pkg:generic/web@1".to_owned()),
        Some(D1.to_owned()),
        Some(format!("web@{D1}")),
        Some(D2.to_owned()),
    ]);
    let part = || prop::sample::select(vec![None, Some("a"), Some("b")]);
    let config = prop::sample::select(vec![None, Some(D1), Some(D2)]);
    ("v[12]", artifact, config, part(), part()).prop_map(
        |(version, artifact, config, infrastructure, commit)| Release {
            version: short_text(&version),
            artifact: artifact.map(|text| Artifact::parse(&text).expect("an artifact")),
            config: config.map(|text| ConfigDigest::parse(text).expect("a digest")),
            infrastructure: infrastructure.map(short_text),
            commit: commit.map(short_text),
        },
    )
}

proptest! {
    #[test]
    fn a_release_that_matches_does_not_contradict(one in any_release(), other in any_release()) {
        prop_assert!(one.matches(&one) && !one.contradicts(&one));
        prop_assert_eq!(one.contradicts(&other), other.contradicts(&one));
        if one.matches(&other) {
            prop_assert!(!one.contradicts(&other));
        }
        if one.differing_parts(&other).is_empty() {
            prop_assert!(one.matches(&other) && other.matches(&one));
        }
    }
}
