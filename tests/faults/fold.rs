//! What runs where, folded from the stream's bytes by the words of the design: it shares nothing with the
//! ledger's own fold.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// A lane: environment, service, target.
type Lane = (String, String, String);
/// A track: a lane and one of its slots, or none for what traffic reaches.
type Track = (Lane, Option<String>);

/// What a track was given last, by when it occurred and where it stands.
struct Change {
    at: (DateTime<Utc>, u64),
    effect: Effect,
}

enum Effect {
    Version(String),
    Nothing,
    Slot(String),
}

/// What runs: the slot and the version, by service and target.
pub(crate) type Running = BTreeMap<(String, String), (Option<String>, String)>;

/// The lanes of all environments, folded.
#[derive(Default)]
pub(crate) struct Fold(BTreeMap<Track, Change>);

impl Fold {
    /// Folds one event that repeats no other.
    pub(crate) fn apply(&mut self, position: u64, event: &Value) {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let kind = event["type"].as_str().unwrap_or_default();
        let slot = text("slot");
        let (slot, effect) = match kind {
            "io.releaseledger.deploy.succeeded.v1" => {
                let version = data["release"]["version"].as_str().expect("a version").to_owned();
                (slot, Effect::Version(version))
            }
            "io.releaseledger.deploy.removed.v1" => (slot, Effect::Nothing),
            "io.releaseledger.traffic.switched.v1" => (None, Effect::Slot(slot.expect("a slot"))),
            _ => return,
        };
        let lane = (
            text("environment").expect("an environment"),
            text("service").expect("a service"),
            text("target").unwrap_or_else(|| "default".to_owned()),
        );
        let time = event["time"].as_str().expect("a time").parse().expect("a time");
        let at = (time, position);
        let kept = self.0.entry((lane, slot)).or_insert(Change { at, effect: Effect::Nothing });
        if kept.at <= at {
            *kept = Change { at, effect };
        }
    }

    /// What an environment runs.
    pub(crate) fn running(&self, environment: &str) -> Running {
        let mut running = Running::new();
        for ((lane, slot), change) in &self.0 {
            if slot.is_some() || lane.0 != environment {
                continue;
            }
            let live = match &change.effect {
                Effect::Nothing => None,
                Effect::Version(version) => Some((None, version.clone())),
                Effect::Slot(slot) => match self.0.get(&(lane.clone(), Some(slot.clone()))) {
                    Some(Change { effect: Effect::Version(version), .. }) => {
                        Some((Some(slot.clone()), version.clone()))
                    }
                    _ => None,
                },
            };
            live.and_then(|live| running.insert((lane.1.clone(), lane.2.clone()), live));
        }
        running
    }
}

/// What the ledger says that an environment runs, in its answer to the question for a state.
pub(crate) fn told(state: &Value) -> Running {
    let lanes = state["lanes"].as_array().expect("lanes").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    lanes
        .map(|lane| {
            let slot = lane["slot"].as_str().map(str::to_owned);
            let key = (text(&lane["service"]), text(&lane["target"]));
            (key, (slot, text(&lane["release"]["version"])))
        })
        .collect()
}
