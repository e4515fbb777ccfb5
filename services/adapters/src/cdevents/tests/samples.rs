//! Samples of every event type of every specification, and the effect of each.

use serde_json::Value;

use super::super::catalog::TYPES;
use super::super::schema::Spec;
use super::{Settings, kind, read_value};

/// The kind of native event for each event type that has another effect than an activity, for its sample: tests failed,
/// approvals were given for nothing that the ledger knows, and no slot was published.
pub(super) const EFFECTS: &[(&str, &str)] = &[
    ("artifact.packaged", "artifact.built"),
    ("environment.deleted", "environment.retired"),
    ("incident.detected", "incident.opened"),
    ("incident.reported", "incident.opened"),
    ("incident.resolved", "incident.resolved"),
    ("service.deployed", "deploy.succeeded"),
    ("service.upgraded", "deploy.succeeded"),
    ("service.rolledback", "deploy.succeeded"),
    ("service.removed", "deploy.removed"),
    ("testcaserun.started", "validation.started"),
    ("testcaserun.finished", "validation.failed"),
    ("testsuiterun.started", "validation.started"),
    ("testsuiterun.finished", "validation.failed"),
];

/// Returns the samples of a specification.
pub(super) fn samples(spec: Spec) -> Vec<Value> {
    let text = match spec {
        Spec::V0_3 => include_str!("samples/0.3.0.json"),
        Spec::V0_4 => include_str!("samples/0.4.1.json"),
        Spec::V0_5 => include_str!("samples/0.5.1.json"),
        Spec::V0_6 => include_str!("samples/0.6.0-draft.json"),
    };
    serde_json::from_str(text).expect("an array of events")
}

/// Returns the name of the type of a CDEvent, without prefix and version.
pub(super) fn name(message: &Value) -> String {
    let full_name = message["context"]["type"].as_str().expect("a type");
    let rest = full_name.splitn(3, '.').nth(2).expect("a name");
    rest.split('.').take(2).collect::<Vec<_>>().join(".")
}

pub(super) fn effect(name: &str) -> &'static str {
    EFFECTS.iter().find(|(of, _)| *of == name).map_or("activity.reported", |(_, effect)| effect)
}

#[test]
fn every_type_of_every_specification_has_a_sample() {
    for spec in Spec::ALL {
        let mut sampled: Vec<String> = samples(spec).iter().map(name).collect();
        sampled.retain(|name| !name.contains('-'));
        sampled.sort();
        let mut known: Vec<String> =
            TYPES.iter().filter(|it| it.version(spec).is_some()).map(|it| it.name()).collect();
        known.sort();
        assert_eq!(sampled, known, "{spec}");
    }
}

#[test]
fn every_sample_has_the_effect_of_its_type() {
    for spec in Spec::ALL {
        for sample in samples(spec) {
            let name = name(&sample);
            let native = read_value(&sample, &Settings::default())
                .unwrap_or_else(|error| panic!("{spec} {name}: {error}"));
            assert_eq!(kind(&native), effect(&name), "{spec} {name}");
            assert_eq!(native["id"], sample["context"]["id"]);
            assert_eq!(native["source"], sample["context"]["source"]);
            assert_eq!(native["time"], sample["context"]["timestamp"]);
        }
    }
}

#[test]
fn the_chain_and_the_event_before_become_correlation_and_causation() {
    for sample in samples(Spec::V0_5).iter().filter(|sample| !name(sample).contains('-')) {
        let native = read_value(sample, &Settings::default()).expect("a sample");
        assert_eq!(native["correlationid"], "release-948");
        assert_eq!(native["causationid"], "run-4711-started");
    }
}
