//! Examples of returns to an earlier release.

use super::*;

/// Returns the earlier run that the model names for each entry that returns to one, both by position.
fn returns(model: &Model) -> Vec<(u64, u64)> {
    let of = |entry: &Entry| Some((entry.position, model.returns_to(entry)?));
    model.entries.iter().filter_map(of).collect()
}

fn spelled(minutes: i64, registry: &str) -> (i64, &'static str, Value) {
    let release = json!({"version": "v1", "artifact": format!("{registry}/web@{D1}")});
    (minutes, "deploy.succeeded", json!({"service": "web", "release": release}))
}

#[test]
fn d19_a_lane_returns_to_what_it_really_ran_by_a_deploy_by_a_switch_and_after_a_removal() {
    let model = history(&[
        slot(1, "blue", "v1"),
        switched(2, "blue"),
        slot(3, "green", "v2"),
        switched(4, "green"),
        switched(5, "blue"),
        deployed(6, "web", "v2"),
        removed(7, "web"),
        deployed(8, "web", "v2"),
        deployed(9, "web", "v2"),
    ]);
    let only_idle = history(&[
        slot(1, "blue", "v2"),
        switched(3, "blue"),
        // Late: the lane runs v3 from the switch on, and never ran v2.
        slot(2, "blue", "v3"),
        slot(4, "blue", "v2"),
    ]);

    assert_eq!(returns(&model), [(5, 2), (6, 4), (8, 6)]);
    assert!(returns(&only_idle).is_empty());
}

#[test]
fn d19_the_earlier_run_is_by_what_ran_when_and_not_by_the_order_of_reports() {
    let late = history(&[
        deployed(1, "web", "v1"),
        deployed(4, "web", "v3"),
        deployed(3, "web", "v2"),
        deployed(5, "web", "v2"),
    ]);
    let mut fix = deployed(2, "web", "v3");
    fix.2["corrects"] = json!({"source": "urn:test", "id": "e2"});
    let corrected = history(&[
        deployed(1, "web", "v1"),
        deployed(2, "web", "v2"),
        deployed(3, "web", "v1"),
        deployed(4, "web", "v2"),
        fix,
    ]);
    let at_once = history(&[deployed(1, "web", "v1"), deployed(1, "web", "v2"), deployed(1, "web", "v1")]);
    let after_the_switch = history(&[
        deployed(1, "web", "v2"),
        deployed(3, "web", "v1"),
        switched(4, "green"),
        slot(2, "green", "v2"),
    ]);

    assert_eq!(returns(&late), [(4, 3)]);
    assert_eq!(returns(&corrected), [(3, 1)], "v2 ran only once");
    assert_eq!(returns(&at_once), [(3, 1)]);
    assert_eq!(returns(&after_the_switch), [(4, 1)], "the deploy counts from the switch");
}

#[test]
fn d19_another_spelling_of_the_running_artifact_returns_to_nothing() {
    let model = history(&[
        spelled(1, "a.example"),
        deployed(2, "web", "v2"),
        spelled(3, "b.example"),
        spelled(4, "c.example"),
    ]);

    assert_eq!(returns(&model), [(3, 1)]);
}
