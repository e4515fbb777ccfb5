//! Tests of what versions mean.

use super::*;

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn statement(at: i64, recorded: u64, artifact: &str) -> ArtifactStatement {
    let artifact = Artifact::parse(artifact).expect("an artifact");
    ArtifactStatement { at: EventTime::new(time(at), Position::new(recorded)), artifact }
}

/// Returns an image whose digest consists of one digit.
fn image(name: &str, digit: &str) -> String {
    format!("pkg:oci/{name}@sha256:{}", digit.repeat(64))
}

fn web() -> ServiceName {
    ServiceName::parse("web").expect("a name")
}

fn version() -> ShortText {
    ShortText::parse("v1").expect("a version")
}

fn meanings(builds: Vec<ArtifactStatement>, elsewhere: Vec<ArtifactStatement>) -> VersionMeanings {
    VersionMeanings {
        here: HashMap::new(),
        elsewhere: HashMap::from([(("web".to_owned(), "v1".to_owned()), elsewhere)]),
        builds: Builds(HashMap::from([("v1".to_owned(), builds)])),
    }
}

#[test]
fn rule_6_a_deploy_before_any_build_has_the_first_artifact_after_it() {
    let [one, two] = [image("web", "1"), image("web", "2")];
    let builds = || vec![statement(2, 9, &one), statement(60, 3, &two)];
    let of_deploy = |meanings: &VersionMeanings, at| {
        meanings.artifact_of_deploy(&web(), &version(), time(at)).map(|artifact| artifact.as_str().to_owned())
    };
    let built = meanings(builds(), Vec::new());
    assert_eq!(of_deploy(&built, 0), Some(one.clone()));
    assert_eq!(of_deploy(&built, 70), Some(two.clone()));
    let deployed_later = meanings(builds(), vec![statement(61, 10, &two)]);
    assert_eq!(of_deploy(&deployed_later, 0), Some(one.clone()));
    let deployed_first = meanings(builds(), vec![statement(1, 10, &two)]);
    assert_eq!(of_deploy(&deployed_first, 0), Some(two));
    assert_eq!(of_deploy(&meanings(Vec::new(), Vec::new()), 0), None);
}

#[test]
fn rule_25_every_artifact_that_a_deploy_may_have_is_a_possible_one_of_the_version() {
    let [one, two, three, other] = ["1", "2", "3", "4"].map(|digit| image("web", digit));
    let possible = |meanings: &VersionMeanings| {
        let possible = meanings.possible_artifacts(&web(), &version());
        let artifacts = possible.artifacts.iter().map(|artifact| artifact.as_str().to_owned());
        (artifacts.collect::<Vec<_>>(), possible.is_complete)
    };
    let [foo, bar] = [image("foo", "5"), image("bar", "6")];
    let rebuilt = vec![statement(2, 1, &one), statement(60, 2, &two), statement(70, 3, &bar)];
    let deployed = vec![statement(61, 4, &three), statement(62, 5, &other)];
    let all = meanings(rebuilt, deployed);
    assert_eq!(possible(&all), (vec![one, two, three, other], true));
    for at in 0..80 {
        let of_deploy = all.artifact_of_deploy(&web(), &version(), time(at));
        let of_deploy = of_deploy.map(|artifact| artifact.as_str().to_owned());
        assert!(of_deploy.is_some_and(|artifact| possible(&all).0.contains(&artifact)), "{at}");
    }
    assert_eq!(possible(&meanings(Vec::new(), Vec::new())), (Vec::new(), false));
    let ambiguous = vec![statement(2, 1, &foo), statement(60, 2, &bar)];
    assert_eq!(possible(&meanings(ambiguous, Vec::new())), (vec![foo], false), "unknown for a deploy at 61");
}

#[test]
fn rule_6_two_checksums_of_one_package_are_ambiguous_also_after_the_package_without_one() {
    let package = "pkg:npm/web@1.0.0";
    let with_checksum = |digit: &str| format!("{package}?checksum=sha256:{}", digit.repeat(64));
    let is_ambiguous = |artifacts: &[&str]| {
        let builds = artifacts.iter().zip(1..).map(|(artifact, at)| statement(at, 1, artifact)).collect();
        meanings(builds, Vec::new()).is_ambiguous(&web(), &version())
    };
    assert!(is_ambiguous(&[package, &with_checksum("1"), &with_checksum("2")]));
    assert!(!is_ambiguous(&[package, package]));
}

#[test]
fn rule_15_a_version_means_an_artifact_by_the_builds_that_were_known_for_the_moment() {
    let [foo, bar, late] = [image("foo", "1"), image("bar", "2"), image("foo", "3")];
    let builds = [statement(11, 4, &late), statement(12, 1, &foo), statement(12, 2, &bar)];
    let artifact = |at, recorded, known_at| {
        let at = EventTime::new(time(at), Position::new(recorded));
        let known = KnownEventTime { at, known_at: Position::new(known_at) };
        known.build(&web(), &builds).map(|build| build.artifact.as_str().to_owned())
    };
    assert_eq!(artifact(12, 3, 3), None, "two names were known");
    assert_eq!(artifact(12, 3, 9), None, "they still occurred at or before the moment");
    assert_eq!(artifact(12, 1, 1), Some(foo));
}
