//! What runs where, folded from the stream's bytes by the words of decision 0015, section 1: it shares nothing
//! with the ledger's own fold.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// A lane: environment, service, target.
type Lane = (String, String, String);
/// When a change occurred, and where it stands.
type Moment = (DateTime<Utc>, u64);

/// A change of a lane, or of one of its slots.
enum Change {
    Deployed { slot: Option<String>, version: String },
    Removed { slot: Option<String> },
    Switched { slot: String },
}

/// What runs: the slot and the version, by service and target.
pub(crate) type Running = BTreeMap<(String, String), (Option<String>, String)>;

/// The lanes of all environments, each with its changes in the order of their moments.
#[derive(Default)]
pub(crate) struct Fold(BTreeMap<Lane, BTreeMap<Moment, Change>>);

impl Fold {
    /// Folds one event that repeats no other. Every event names its target.
    pub(crate) fn apply(&mut self, position: u64, event: &Value) {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let kind = event["type"].as_str().unwrap_or_default();
        let slot = text("slot");
        let change = match kind {
            "io.releaseledger.deploy.succeeded.v1" => {
                let version = data["release"]["version"].as_str().expect("a version").to_owned();
                Change::Deployed { slot, version }
            }
            "io.releaseledger.deploy.removed.v1" => Change::Removed { slot },
            "io.releaseledger.traffic.switched.v1" => Change::Switched { slot: slot.expect("a slot") },
            _ => return,
        };
        let lane = ["environment", "service", "target"].map(|name| text(name).expect("a name"));
        let time = event["time"].as_str().expect("a time").parse().expect("a time");
        self.0.entry(lane.into()).or_default().insert((time, position), change);
    }

    /// What an environment runs.
    pub(crate) fn running(&self, environment: &str) -> Running {
        let lanes = self.0.iter().filter(|((of, ..), _)| of == environment);
        lanes
            .filter_map(|((_, service, target), changes)| {
                Some(((service.clone(), target.clone()), live(changes.values())?))
            })
            .collect()
    }
}

/// What traffic follows.
enum Traffic<'c> {
    Version(&'c str),
    Nothing,
    Slot(&'c str),
}

/// Plays a lane's changes one after the other; returns the slot and the version that traffic reaches after them.
fn live<'c>(changes: impl Iterator<Item = &'c Change>) -> Option<(Option<String>, String)> {
    // A slot that is not in here is unknown; one with nothing in it is empty.
    let mut slots: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    // Switches to slots that were unknown: they wait for the slot's next deploy.
    let mut pending: Vec<(usize, &str)> = Vec::new();
    // The traffic change that counts, and its place among the changes: one that waited may have come before it.
    let mut followed = (0, Traffic::Nothing);
    for (place, change) in (1..).zip(changes) {
        match change {
            Change::Deployed { slot: None, version } => followed = (place, Traffic::Version(version)),
            Change::Deployed { slot: Some(slot), version } => {
                slots.insert(slot, Some(version));
                for (waited, _) in pending.extract_if(.., |(_, waiting)| waiting == slot) {
                    if waited > followed.0 {
                        followed = (waited, Traffic::Slot(slot));
                    }
                }
            }
            Change::Removed { slot: None } => {
                slots.values_mut().for_each(|held| *held = None);
                followed = (place, Traffic::Nothing);
            }
            Change::Removed { slot: Some(slot) } => {
                slots.insert(slot, None);
            }
            Change::Switched { slot } => match slots.get(slot.as_str()) {
                Some(Some(_)) => followed = (place, Traffic::Slot(slot)),
                // It never takes effect.
                Some(None) => {}
                None => pending.push((place, slot)),
            },
        }
    }
    match followed.1 {
        Traffic::Nothing => None,
        Traffic::Version(version) => Some((None, version.to_owned())),
        Traffic::Slot(slot) => {
            let version = slots.get(slot).copied().flatten()?;
            Some((Some(slot.to_owned()), version.to_owned()))
        }
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
