//! Examples of what versions mean, in checks, promotion and approvals.

use super::*;

#[test]
fn b6_a_check_of_one_build_does_not_count_for_another_build_of_the_version() {
    let build = |minutes, digest: &str| {
        let release = json!({"version": "v1", "artifact": format!("pkg:oci/web@{digest}")});
        (minutes, "deploy.succeeded", json!({"service": "web", "release": release}))
    };
    let check = json!({"service": "web", "release": {"version": "v1"}, "check": "smoke"});
    let model = history(&[build(1, D1), checked(2, true, check.clone()), build(3, D2)]);
    let before = history(&[
        built(0, "v1", &format!("pkg:oci/web@{D1}")),
        checked(1, true, check),
        build(2, D2),
        build(3, D1),
    ]);

    assert_eq!(statuses(&model), ["known_good", "candidate"]);
    assert_eq!(statuses(&before), ["candidate", "known_good"]);
}

#[test]
fn b6_a_check_of_an_artifact_counts_for_a_deploy_that_states_only_its_version() {
    let [mine, other] = [D1, D2].map(|digest| format!("pkg:oci/web@{digest}"));
    let scan = |minutes, digest: &str| checked(minutes, false, json!({"artifact": digest, "check": "scan"}));
    let smoked = |minutes| {
        checked(minutes, true, json!({"service": "web", "release": {"version": "v1"}, "check": "smoke"}))
    };
    let (deploy, smoke) = (deployed(1, "web", "v1"), smoked(2));
    let events = [built(0, "v1", &mine), deploy.clone(), smoke.clone(), scan(3, D1)];
    let late = [deploy.clone(), smoke.clone(), scan(3, D1), built(0, "v1", &mine)];
    let after = [deploy.clone(), smoke.clone(), scan(3, D1), built(4, "v1", &mine)];
    let rebuilt = [built(0, "v1", &mine), deploy.clone(), smoke.clone(), built(3, "v1", &other), scan(4, D2)];
    let redeploy = [deployed(4, "web", "v1"), smoked(5)];
    let redeployed = |digest| {
        let before = [built(0, "v1", &mine), deploy.clone(), smoke.clone(), built(3, "v1", &other)];
        [&before[..], &redeploy, &[scan(6, digest)]].concat()
    };

    assert_eq!(statuses(&history(&events)), ["candidate"]);
    assert_eq!(statuses(&history(&late)), ["candidate"], "the order of arrival does not matter");
    assert_eq!(statuses(&history(&after)), ["candidate"], "nothing else is known of the version");
    assert_eq!(statuses(&history(&rebuilt)), ["known_good"], "another build under the same version");
    assert_eq!(statuses(&history(&redeployed(D1))), ["known_good"], "the lane runs the other build by now");
    assert_eq!(statuses(&history(&redeployed(D2))), ["candidate"], "the check is of the build that runs");
}

#[test]
fn b6_a_check_of_a_version_does_not_count_for_a_redeploy_after_another_build_of_it() {
    let [mine, other] = [D1, D2].map(|digest| format!("pkg:oci/web@{digest}"));
    let smoke = |minutes| {
        checked(minutes, true, json!({"service": "web", "release": {"version": "v1"}, "check": "smoke"}))
    };
    let mut events = vec![built(0, "v1", &mine), deployed(1, "web", "v1"), smoke(2), built(3, "v1", &other)];
    assert_eq!(statuses(&history(&events)), ["known_good"]);

    events.push(deployed(4, "web", "v1"));
    assert_eq!(statuses(&history(&events)), ["candidate"]);
    events.push(smoke(5));
    assert_eq!(statuses(&history(&events)), ["known_good"]);
}

#[test]
fn b6_a_check_that_states_an_artifact_counts_for_a_deploy_of_a_version_that_means_it() {
    let check = |digest: &str| {
        let release = json!({"version": "v1", "artifact": digest});
        checked(2, true, json!({"service": "web", "release": release, "check": "smoke"}))
    };
    let events =
        |digest| [built(0, "v1", &format!("pkg:oci/web@{D1}")), deployed(1, "web", "v1"), check(digest)];

    assert_eq!(statuses(&history(&events(D1))), ["known_good"]);
    assert_eq!(statuses(&history(&events(D2))), ["candidate"]);
}

#[test]
fn b6_a_deploy_before_any_build_of_its_version_has_the_first_build_after_it() {
    let [mine, other] = [D1, D2].map(|digest| format!("pkg:oci/web@{digest}"));
    let smoke = checked(5, true, json!({"service": "web", "release": {"version": "v1"}, "check": "smoke"}));
    let scan = |digest: &str| checked(65, false, json!({"artifact": digest, "check": "scan"}));
    let events = |digest| {
        [
            deployed(0, "web", "v1"),
            built(2, "v1", &mine),
            smoke.clone(),
            built(60, "v1", &other),
            scan(digest),
        ]
    };
    let mut crossed = events(D1);
    crossed.swap(1, 3);

    assert_eq!(statuses(&history(&events(D1))), ["candidate"]);
    assert_eq!(statuses(&history(&events(D2))), ["known_good"]);
    assert_eq!(statuses(&history(&crossed)), ["candidate"], "the order of arrival does not matter");
    let elsewhere = json!({"environment": "dev", "service": "web", "release": release_with_artifact(&other)});
    let deployed_later = (62, "deploy.succeeded", elsewhere);
    assert_eq!(statuses(&history(&[&events(D1)[..], &[deployed_later]].concat())), ["candidate"]);
}

#[test]
fn b6_a_check_after_a_deploy_before_any_build_does_not_count_for_a_later_build() {
    let [mine, other] = [D1, D2].map(|digest| format!("pkg:oci/web@{digest}"));
    let smoke = checked(5, true, json!({"service": "web", "release": {"version": "v1"}, "check": "smoke"}));
    let deploy = |minutes| deployed(minutes, "web", "v1");

    let events = [deploy(0), built(2, "v1", &mine), smoke, built(60, "v1", &other), deploy(61)];
    assert_eq!(statuses(&history(&events)), ["candidate"]);
}

#[test]
fn c14_promotion_judges_the_build_that_ran_not_the_one_that_its_version_means_now() {
    let staging = |minutes, kind: &'static str, check: Option<&str>| {
        let mut data = json!({"environment": "staging", "service": "web", "release": {"version": "v1"}});
        if let Some(check) = check {
            data["check"] = check.into();
        }
        (minutes, kind, data)
    };
    let build = |minutes, digest: &str| built(minutes, "v1", &format!("pkg:oci/web@{digest}"));
    let model = history(&[
        declared(json!({"promotion": {"from": ["staging"]}})),
        build(1, D1),
        staging(2, "deploy.succeeded", None),
        staging(3, "validation.passed", Some("smoke")),
        build(4, D2),
    ]);

    assert_eq!(failed_rules(&model, "web", json!({"version": "v1"})), ["promotion"]);
    assert_eq!(failed_rules(&model, "web", release_with_artifact(D2)), ["promotion"]);
    assert!(failed_rules(&model, "web", release_with_artifact(D1)).is_empty());
}

#[test]
fn c15_a_grant_of_a_version_with_builds_of_two_names_has_no_artifact() {
    let grant = json!({"service": "web", "release": {"version": "v1"},
        "actor": {"type": "person", "name": "Mira"}});
    let late = format!("pkg:oci/foo@{}", D1.replace('1', "3"));
    let model = history(&[
        declared(json!({"approvals": 1})),
        built(12, "v1", &format!("pkg:oci/foo@{D1}")),
        built(12, "v1", &format!("pkg:oci/bar@{D2}")),
        (12, "approval.granted", grant),
        built(11, "v1", &late),
    ]);

    assert!(failed_rules(&model, "web", json!({"version": "v1"})).is_empty());
}
