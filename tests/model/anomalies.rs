//! The anomalies of an entry.

use crate::entry::Entry;
use crate::lanes::{Content, Model, ReportTarget};

/// Anomalies of decision 0015, sorted.
pub(crate) const ANOMALIES: [&str; 10] = [
    "ambiguous_target",
    "corrects_nothing",
    "counts_contradict",
    "during_freeze",
    "environment_retired",
    "late",
    "removed_nothing",
    "straddles_change",
    "switch_pending",
    "switched_to_empty_slot",
];

impl Model {
    /// Returns the anomalies of an entry, sorted: `during_freeze` as known now, the others as known at its recording.
    pub(crate) fn anomalies(&self, entry: &Entry) -> Vec<&'static str> {
        let k = entry.position;
        let mut anomalies = Vec::new();
        if ["deploy.succeeded", "deploy.removed", "traffic.switched"].contains(&&*entry.kind)
            && entry.optional("rollback_id").is_none()
            && self.is_frozen(entry.text("environment"), entry.occurred_at, self.head())
        {
            anomalies.push("during_freeze");
        }
        if *self.target_of(entry) == ReportTarget::Ambiguous {
            anomalies.push("ambiguous_target");
        }
        if entry.corrects().is_some() && (!entry.is_correctable() || self.corrected(entry, k).is_none()) {
            anomalies.push("corrects_nothing");
        }
        if entry.is_end() {
            if Self::counts_contradict(entry) {
                anomalies.push("counts_contradict");
            }
            if self.straddles(entry, k) {
                anomalies.push("straddles_change");
            }
        }
        anomalies.extend(self.anomalies_of_change(entry));
        anomalies.sort_unstable();
        anomalies
    }

    /// Returns true if the lane of a change had a later one when the change was recorded.
    pub(crate) fn is_late(&self, entry: &Entry) -> bool {
        let ReportTarget::Resolved(target) = self.target_of(entry) else { return false };
        let (environment, service) = (entry.text("environment"), entry.text("service"));
        let changes = self.changes(environment, service, target, entry.position);
        entry.is_change() && changes.iter().any(|other| other.moment() > entry.moment())
    }

    fn is_deployed_later(&self, lane: [&str; 3], slot: &str, m: (i64, u64), k: u64) -> bool {
        self.changes(lane[0], lane[1], lane[2], k).iter().any(|change| {
            change.is("deploy.succeeded") && change.optional("slot") == Some(slot) && change.moment() > m
        })
    }

    fn anomalies_of_change(&self, entry: &Entry) -> Vec<&'static str> {
        let ReportTarget::Resolved(target) = self.target_of(entry) else { return Vec::new() };
        let (environment, service) = (entry.text("environment"), entry.text("service"));
        let (m, k) = (entry.moment(), entry.position);
        if !entry.is_change() {
            return Vec::new();
        }
        if self.is_retired(environment, m, k) {
            return vec!["environment_retired"];
        }
        let lane = [environment, service, &**target];
        // The last moment before the entry.
        let before = (m.0, m.1 - 1);
        let mut anomalies = Vec::new();
        if self.is_late(entry) {
            anomalies.push("late");
        }
        // The state before a retirement is discarded.
        if self.precedes_retirement(environment, m, k) {
            return anomalies;
        }
        match (&*entry.kind, entry.optional("slot")) {
            ("traffic.switched", Some(slot)) => match self.slot(lane, slot, before, k) {
                Content::Filled(_) => {}
                Content::Empty => anomalies.push("switched_to_empty_slot"),
                // Not pending if a deploy that occurs later is already known.
                Content::Unknown if self.is_deployed_later(lane, slot, m, k) => {}
                Content::Unknown => anomalies.push("switch_pending"),
            },
            ("deploy.removed", _) if self.is_late(entry) => {}
            ("deploy.removed", Some(slot)) => match self.slot(lane, slot, before, k) {
                Content::Filled(_) => {}
                _ => anomalies.push("removed_nothing"),
            },
            ("deploy.removed", None) => {
                let state = self.state(environment, before, k);
                let has_release = state
                    .lanes
                    .iter()
                    .chain(&state.idle)
                    .any(|lane| lane.service == service && lane.target == *target);
                if !has_release {
                    anomalies.push("removed_nothing");
                }
            }
            _ => {}
        }
        anomalies
    }
}
