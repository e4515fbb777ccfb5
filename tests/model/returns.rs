//! Rule 19: returns of a lane to a release that it ran before.

use crate::entry::{Entry, MAX_MOMENT, Moment, Release};
use crate::lanes::{Content, Model, ReportTarget};

/// A span in which a lane runs one release, or nothing, without a break.
struct Run {
    /// Position of the event at whose moment it starts.
    start: u64,
    release: Option<Release>,
}

impl Run {
    fn is_of(&self, release: Option<&Release>) -> bool {
        match (&self.release, release) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Model {
    /// Returns the position of the event by which the lane last started to run what an entry made live, before the run
    /// to which the entry belongs. Determined by what ran when as known now, if the entry made that version live then.
    pub(crate) fn returns_to(&self, entry: &Entry) -> Option<u64> {
        let ReportTarget::Resolved(target) = self.target_of(entry) else { return None };
        let lane = [entry.text("environment"), entry.text("service"), &**target];
        let k = self.head();
        if self.is_replaced(entry, k) {
            return None;
        }
        let made_live = self.made_live(entry, lane)?;
        let from = self.counts_from(entry, lane, k)?;
        let live = self.live(lane, from, k)?.release;
        if live.version != made_live.version {
            return None;
        }
        let runs = self.runs(lane, from, k);
        // The last run is the present one.
        let earlier = runs.iter().rev().skip(1).find(|run| run.is_of(Some(&live)));
        earlier.map(|run| run.start)
    }

    /// Returns the release that a deploy or a switch made live when it was recorded; `None` if the lane ran it already.
    fn made_live(&self, entry: &Entry, lane: [&str; 3]) -> Option<Release> {
        let after = self.live(lane, MAX_MOMENT, entry.position)?;
        let is_by_entry = match &*entry.kind {
            "deploy.succeeded" => after.release.is_same(&entry.release()),
            "traffic.switched" => after.slot.as_deref() == entry.optional("slot"),
            _ => false,
        };
        let before = self.live(lane, MAX_MOMENT, entry.position - 1);
        let is_change = before.is_none_or(|before| !before.release.is_same(&after.release));
        (is_by_entry && is_change).then_some(after.release)
    }

    /// Returns the moment from which traffic reaches what a deploy or a switch states, as known at K.
    fn counts_from(&self, entry: &Entry, lane: [&str; 3], k: u64) -> Option<Moment> {
        let moment = entry.moment();
        let Some(slot) = entry.optional("slot") else { return Some(moment) };
        if entry.is("traffic.switched") {
            // Neither a switch that waits for the first deploy to its slot nor one to an empty slot changes anything.
            let is_filled = matches!(self.slot(lane, slot, moment, k), Content::Filled(_));
            return is_filled.then_some(moment);
        }
        let is_reached = |m: Moment| {
            let live = self.live(lane, m, k);
            live.is_some_and(|live| live.slot.as_deref() == Some(slot))
        };
        if is_reached(moment) {
            return Some(moment);
        }
        // The deploy counts from the first switch to its slot, unless the slot changes before.
        let changes = self.changes(lane[0], lane[1], lane[2], k);
        let mut later = changes.into_iter().filter(|change| change.moment() > moment);
        let next = later.find(|change| {
            let empties_lane = change.is("deploy.removed") && change.optional("slot").is_none();
            empties_lane || change.optional("slot") == Some(slot)
        })?;
        (next.is("traffic.switched") && is_reached(next.moment())).then(|| next.moment())
    }

    /// Returns the runs of a lane up to `m`, as known at K.
    fn runs(&self, lane: [&str; 3], m: Moment, k: u64) -> Vec<Run> {
        let mut moments: Vec<Moment> = self.known(k).iter().map(|entry| entry.moment()).collect();
        // Retirements and declarations count by their times, so from the first moment of each time.
        for kind in ["environment.retired", "environment.declared"] {
            let named = self.known_in(lane[0], kind, k);
            moments.extend(named.into_iter().map(|entry| (entry.occurred_at, 0)));
        }
        moments.retain(|moment| *moment <= m);
        moments.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for moment in moments {
            let release = self.live(lane, moment, k).map(|live| live.release);
            if runs.last().is_none_or(|last| !last.is_of(release.as_ref())) {
                runs.push(Run { start: moment.1, release });
            }
        }
        runs
    }
}
