//! The live release of each lane, computed from the stream's bytes by decision 0015, section 1, independent of the
//! ledger's own implementation.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// Environment, service and target.
type Lane = (String, String, String);
/// Time of occurrence and position.
type Moment = (DateTime<Utc>, u64);

/// A change of a lane, or of one of its slots.
enum Change {
    Deployed { slot: Option<String>, version: String },
    Removed { slot: Option<String> },
    Switched { slot: String },
}

/// The live slot and version of each lane of an environment, by service and target.
pub(crate) type Running = BTreeMap<(String, String), (Option<String>, String)>;

/// The lanes of all environments, each with its changes in order of their moments.
#[derive(Default)]
pub(crate) struct Lanes(BTreeMap<Lane, BTreeMap<Moment, Change>>);

impl Lanes {
    /// Applies an event that repeats no other. Every event must name its target.
    pub(crate) fn apply(&mut self, position: u64, event: &Value) {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let kind = event["type"].as_str().unwrap_or_default();
        let slot = text("slot");
        let change = match kind {
            "io.releaseledger.deploy.succeeded.v1" => {
                let version = data["release"]["version"].as_str().expect("a deploy has a version").to_owned();
                Change::Deployed { slot, version }
            }
            "io.releaseledger.deploy.removed.v1" => Change::Removed { slot },
            "io.releaseledger.traffic.switched.v1" => {
                Change::Switched { slot: slot.expect("a switch has a slot") }
            }
            _ => return,
        };
        let lane =
            ["environment", "service", "target"].map(|name| text(name).expect("an event names its lane"));
        let time = event["time"].as_str().expect("an event has a time").parse().expect("the time is valid");
        self.0.entry(lane.into()).or_default().insert((time, position), change);
    }

    /// Returns what an environment runs.
    pub(crate) fn running(&self, environment: &str) -> Running {
        let lanes = self.0.iter().filter(|((of, ..), _)| of == environment);
        lanes
            .filter_map(|((_, service, target), changes)| {
                Some(((service.clone(), target.clone()), live(changes.values())?))
            })
            .collect()
    }
}

/// The effect of the latest traffic change.
enum Traffic<'c> {
    Version(&'c str),
    Nothing,
    Slot(&'c str),
}

/// Applies a lane's changes in order. Returns the slot and the version that traffic reaches after them.
fn live<'c>(changes: impl Iterator<Item = &'c Change>) -> Option<(Option<String>, String)> {
    // A slot without an entry is unknown; one with `None` is empty.
    let mut slots: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    // Switches to unknown slots, which take effect with the next deploy to their slot.
    let mut pending: Vec<(usize, &str)> = Vec::new();
    // The latest traffic change and its index. A pending switch keeps its own index: a later change outranks it.
    let mut latest = (0, Traffic::Nothing);
    for (index, change) in (1..).zip(changes) {
        match change {
            Change::Deployed { slot: None, version } => latest = (index, Traffic::Version(version)),
            Change::Deployed { slot: Some(slot), version } => {
                slots.insert(slot, Some(version));
                for (switched, _) in pending.extract_if(.., |(_, pending)| pending == slot) {
                    if switched > latest.0 {
                        latest = (switched, Traffic::Slot(slot));
                    }
                }
            }
            Change::Removed { slot: None } => {
                slots.values_mut().for_each(|content| *content = None);
                latest = (index, Traffic::Nothing);
            }
            Change::Removed { slot: Some(slot) } => {
                slots.insert(slot, None);
            }
            Change::Switched { slot } => match slots.get(slot.as_str()) {
                Some(Some(_)) => latest = (index, Traffic::Slot(slot)),
                // A switch to an empty slot never takes effect.
                Some(None) => {}
                None => pending.push((index, slot)),
            },
        }
    }
    match latest.1 {
        Traffic::Nothing => None,
        Traffic::Version(version) => Some((None, version.to_owned())),
        Traffic::Slot(slot) => {
            let version = slots.get(slot).copied().flatten()?;
            Some((Some(slot.to_owned()), version.to_owned()))
        }
    }
}

/// Reads what an environment runs from the body of a state query's response.
pub(crate) fn from_state(state: &Value) -> Running {
    let lanes = state["lanes"].as_array().expect("a state has lanes").iter();
    let text = |value: &Value| value.as_str().expect("the member is a string").to_owned();
    lanes
        .map(|lane| {
            let slot = lane["slot"].as_str().map(str::to_owned);
            let key = (text(&lane["service"]), text(&lane["target"]));
            (key, (slot, text(&lane["release"]["version"])))
        })
        .collect()
}
