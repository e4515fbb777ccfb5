//! The state of lanes by section 1 of decision 0015, computed from all entries for every query.
//!
//! In all files of the model, `m` is a moment and `k` a position: "as known at K" uses only the entries up to it.

use crate::entry::{Entry, MAX_MOMENT, MIN_MOMENT, Moment, Release};

/// A history, with the target that each report got when it was recorded.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// All entries, ordered by position.
    pub(crate) entries: Vec<Entry>,
    /// The target of each entry.
    targets: Vec<ReportTarget>,
    /// The entries that correct others.
    corrections: Vec<Entry>,
}

/// The target of a report, resolved when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReportTarget {
    /// The entry is not a report of a lane.
    NoLane,
    /// The report named this target, or the service had no other.
    Resolved(String),
    /// The report named no target, and the service had several.
    Ambiguous,
}

/// The release that traffic reaches in a lane.
#[derive(Debug, Clone)]
pub(crate) struct LiveRelease {
    pub(crate) slot: Option<String>,
    pub(crate) release: Release,
    /// Position of the later of the switch and the deploy.
    pub(crate) since: u64,
}

/// A lane with its live release, or a filled slot with its release.
#[derive(Debug, Clone)]
pub(crate) struct LaneRelease {
    pub(crate) service: String,
    pub(crate) target: String,
    pub(crate) live: LiveRelease,
}

/// State of an environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Live releases, ordered by service and target.
    pub(crate) lanes: Vec<LaneRelease>,
    /// Filled slots that traffic does not reach.
    pub(crate) idle: Vec<LaneRelease>,
}

impl State {
    /// Returns the lanes with their releases, artifacts by identity, without slots.
    pub(crate) fn identity(&self) -> Vec<Vec<String>> {
        let key = |lane: &LaneRelease| {
            let mut key = vec![lane.service.clone(), lane.target.clone()];
            key.extend(lane.live.release.key());
            key
        };
        self.lanes.iter().map(key).collect()
    }

    /// Returns the lanes with their releases, artifacts as spelled, without slots.
    pub(crate) fn text(&self) -> String {
        self.lanes
            .iter()
            .map(|lane| format!("{} {} {:?}\n", lane.service, lane.target, lane.live.release))
            .collect()
    }

    pub(crate) fn live(&self, service: &str, target: &str) -> Option<&LiveRelease> {
        let lane = self.lanes.iter().find(|lane| lane.service == service && lane.target == target);
        lane.map(|lane| &lane.live)
    }
}

/// Content of a slot.
pub(crate) enum Content<'m> {
    /// No change of it is known.
    Unknown,
    /// Emptied by a removal.
    Empty,
    /// Filled by this deploy.
    Filled(&'m Entry),
}

impl Model {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let corrections = entries
            .iter()
            .filter(|entry| entry.corrects().is_some() && entry.is_correctable())
            .cloned()
            .collect();
        let mut model = Self { entries, targets: Vec::new(), corrections };
        for index in 0..model.entries.len() {
            let target = model.resolve_target(index);
            model.targets.push(target);
        }
        model
    }

    /// Returns the position of the last entry.
    pub(crate) fn head(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.position)
    }

    pub(crate) fn entry_at(&self, position: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.position == position)
    }

    /// Returns the target of an entry; `NoLane` while it is not resolved yet.
    pub(crate) fn target_of(&self, entry: &Entry) -> &ReportTarget {
        let index = self.entries.binary_search_by_key(&entry.position, |other| other.position).ok();
        index.and_then(|index| self.targets.get(index)).unwrap_or(&ReportTarget::NoLane)
    }

    /// Resolves the target of an entry: the one that it names, or the only one that the service has before it.
    fn resolve_target(&self, index: usize) -> ReportTarget {
        let entry = &self.entries[index];
        if !entry.has_lane() {
            return ReportTarget::NoLane;
        }
        if let Some(target) = entry.optional("target") {
            return ReportTarget::Resolved(target.to_owned());
        }
        let targets = self.targets_of(entry.text("environment"), entry.text("service"), entry.position - 1);
        match targets.len() {
            0 => ReportTarget::Resolved("default".to_owned()),
            1 => ReportTarget::Resolved(targets[0].clone()),
            _ => ReportTarget::Ambiguous,
        }
    }

    /// Returns the targets that a service has, as known at K.
    pub(crate) fn targets_of(&self, environment: &str, service: &str, k: u64) -> Vec<String> {
        let state = self.state(environment, MAX_MOMENT, k);
        let mut targets = Vec::new();
        for lane in state.lanes.iter().chain(&state.idle) {
            if lane.service == service && !targets.contains(&lane.target) {
                targets.push(lane.target.clone());
            }
        }
        if targets.is_empty() {
            for (other, target) in self.lanes_at(environment, MAX_MOMENT, k) {
                if other == service {
                    targets.push(target);
                }
            }
        }
        targets.sort();
        targets
    }

    /// Returns true if a correction that is known at K replaces the entry.
    pub(crate) fn is_replaced(&self, entry: &Entry, k: u64) -> bool {
        if self.corrections.is_empty() || !entry.is_correctable() {
            return false;
        }
        let identity = (&*entry.source, &*entry.id);
        // The entry that this one corrects, the one that that corrects, and so on.
        let mut chain = Vec::new();
        let mut link = Some(entry);
        while let Some(corrected) = link.and_then(|link| self.corrected(link, k)) {
            let named = (&*corrected.source, &*corrected.id);
            if chain.contains(&named) {
                break;
            }
            chain.push(named);
            link = Some(corrected);
        }
        self.corrections.iter().any(|other| {
            let names = other.corrects().filter(|_| other.position <= k);
            // It corrects this entry; or it corrects one of the chain and was recorded after this entry.
            let named = names == Some(identity) && other.position != entry.position;
            let overtakes =
                names.is_some_and(|names| chain.contains(&names)) && other.position > entry.position;
            named || overtakes
        })
    }

    /// Returns the entry that a correction names, if it can be corrected and is known at K.
    pub(crate) fn corrected(&self, entry: &Entry, k: u64) -> Option<&Entry> {
        let (source, id) = entry.corrects()?;
        let named = self.entries.iter().find(|other| other.source == source && other.id == id);
        named
            .filter(|named| named.is_correctable() && named.position <= k && named.position != entry.position)
    }

    /// Returns the entries that are known at K and not replaced.
    pub(crate) fn known(&self, k: u64) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.position <= k && !self.is_replaced(entry, k)).collect()
    }

    /// Returns the entries of a kind in an environment that are known at K and not replaced.
    pub(crate) fn known_in(&self, environment: &str, kind: &str, k: u64) -> Vec<&Entry> {
        let mut known = self.known(k);
        known.retain(|entry| entry.is(kind) && entry.text("environment") == environment);
        known
    }

    /// Returns the intervals in which the environment is retired; one without an end is still open.
    fn retired(&self, environment: &str, k: u64) -> Vec<(Moment, Option<Moment>)> {
        let retired = self.known_in(environment, "environment.retired", k);
        let mut starts: Vec<Moment> = retired.iter().map(|entry| entry.moment()).collect();
        starts.sort_unstable();
        if starts.is_empty() {
            return Vec::new();
        }
        let declared = self.known_in(environment, "environment.declared", k);
        let mut intervals: Vec<(Moment, Option<Moment>)> = Vec::new();
        for start in starts {
            if intervals.iter().any(|(_, end)| end.is_none_or(|end| start <= end)) {
                continue;
            }
            let ends = declared.iter().map(|entry| entry.moment()).filter(|moment| *moment > start);
            intervals.push((start, ends.min()));
        }
        intervals
    }

    /// Returns the moment after which changes count at `m`; `None` while the environment is retired.
    fn counts_after(&self, environment: &str, m: Moment, k: u64) -> Option<Moment> {
        let mut floor = MIN_MOMENT;
        for (start, end) in self.retired(environment, k) {
            // Compare times only: a change at the time of the declaration counts.
            match end {
                Some(end) if end.0 <= m.0 => floor = floor.max((end.0, 0)),
                _ if start.0 <= m.0 => return None,
                _ => {}
            }
        }
        Some(floor)
    }

    /// Returns true for a moment before the end of the last retirement, which may have none.
    pub(crate) fn precedes_retirement(&self, environment: &str, m: Moment, k: u64) -> bool {
        self.counts_after(environment, MAX_MOMENT, k).is_none_or(|floor| m < floor)
    }

    pub(crate) fn is_retired(&self, environment: &str, m: Moment, k: u64) -> bool {
        self.counts_after(environment, m, k).is_none()
    }

    /// Returns all changes of a lane that are known at K, by moment, also those that do not count.
    pub(crate) fn changes(&self, environment: &str, service: &str, target: &str, k: u64) -> Vec<&Entry> {
        let mut changes = self.known(k);
        changes.retain(|entry| {
            entry.is_change()
                && entry.text("environment") == environment
                && entry.text("service") == service
                && *self.target_of(entry) == ReportTarget::Resolved(target.to_owned())
        });
        changes.sort_by_key(|entry| entry.moment());
        changes
    }

    /// Returns the changes of a lane that count at `m`, by moment.
    fn counted_changes(
        &self,
        environment: &str,
        service: &str,
        target: &str,
        m: Moment,
        k: u64,
    ) -> Vec<&Entry> {
        let Some(floor) = self.counts_after(environment, m, k) else { return Vec::new() };
        let mut changes = self.changes(environment, service, target, k);
        changes.retain(|entry| floor < entry.moment() && entry.moment() <= m);
        changes
    }

    /// Returns the lanes with a change that is known at K and counts at `m`, by service and target.
    pub(crate) fn lanes_at(&self, environment: &str, m: Moment, k: u64) -> Vec<(String, String)> {
        let mut lanes = self.all_lanes(environment, k);
        lanes
            .retain(|(service, target)| !self.counted_changes(environment, service, target, m, k).is_empty());
        lanes
    }

    /// Returns the lanes with any change, as known at K.
    pub(crate) fn all_lanes(&self, environment: &str, k: u64) -> Vec<(String, String)> {
        let mut lanes = Vec::new();
        for entry in self.known(k) {
            let is_here = entry.is_change() && entry.text("environment") == environment;
            match self.target_of(entry) {
                ReportTarget::Resolved(target) if is_here => {
                    lanes.push((entry.text("service").to_owned(), target.clone()));
                }
                _ => {}
            }
        }
        lanes.sort();
        lanes.dedup();
        lanes
    }

    /// Returns the state of an environment at `m`, as known at K.
    pub(crate) fn state(&self, environment: &str, m: Moment, k: u64) -> State {
        let mut state = State::default();
        for (service, target) in self.lanes_at(environment, m, k) {
            let changes = self.counted_changes(environment, &service, &target, m, k);
            let lane =
                |live: LiveRelease| LaneRelease { service: service.clone(), target: target.clone(), live };
            let live = live_at(&changes, m);
            for slot in slot_names(&changes) {
                let is_reached = live.as_ref().and_then(|live| live.slot.as_deref()) == Some(&*slot);
                match content(&changes, &slot, m) {
                    Content::Filled(deploy) if !is_reached => {
                        let (release, since) = (deploy.release(), deploy.position);
                        state.idle.push(lane(LiveRelease { slot: Some(slot), release, since }));
                    }
                    _ => {}
                }
            }
            state.lanes.extend(live.map(lane));
        }
        state
    }

    /// Returns what traffic reached in a lane at `m`, as known at K.
    pub(crate) fn live(&self, lane: [&str; 3], m: Moment, k: u64) -> Option<LiveRelease> {
        live_at(&self.counted_changes(lane[0], lane[1], lane[2], m, k), m)
    }

    /// Returns the state of an environment after the entry at K, as known then.
    pub(crate) fn state_at(&self, environment: &str, k: u64) -> State {
        self.state(environment, MAX_MOMENT, k)
    }

    /// Returns the content of a slot at `m`, as known at K.
    pub(crate) fn slot(&self, lane: [&str; 3], slot: &str, m: Moment, k: u64) -> Content<'_> {
        content(&self.counted_changes(lane[0], lane[1], lane[2], m, k), slot, m)
    }
}

/// Returns the slots that changes of a lane name.
pub(crate) fn slot_names(changes: &[&Entry]) -> Vec<String> {
    let mut slots: Vec<String> =
        changes.iter().filter_map(|entry| entry.optional("slot")).map(str::to_owned).collect();
    slots.sort();
    slots.dedup();
    slots
}

/// Rule 1: returns the content of a slot by the latest of its changes and the lane's removals, at or before `m`.
fn content<'m>(changes: &[&'m Entry], slot: &str, m: Moment) -> Content<'m> {
    let before = || changes.iter().filter(|entry| entry.moment() <= m);
    let of_slot = before()
        .filter(|entry| !entry.is("traffic.switched") && entry.optional("slot") == Some(slot))
        .max_by_key(|entry| entry.moment());
    let removal = before()
        .filter(|entry| entry.is("deploy.removed") && entry.optional("slot").is_none())
        .max_by_key(|entry| entry.moment());
    let Some(of_slot) = of_slot else { return Content::Unknown };
    let emptied = removal.is_some_and(|removal| removal.moment() > of_slot.moment());
    if emptied || of_slot.is("deploy.removed") { Content::Empty } else { Content::Filled(of_slot) }
}

/// Rule 2: returns the moment from which a switch is effective; `None` if it never is.
fn effective_from(changes: &[&Entry], switch: &Entry) -> Option<Moment> {
    let slot = switch.text("slot");
    match content(changes, slot, switch.moment()) {
        Content::Filled(_) => Some(switch.moment()),
        Content::Empty => None,
        Content::Unknown => changes
            .iter()
            .filter(|entry| entry.is("deploy.succeeded") && entry.optional("slot") == Some(slot))
            .map(|entry| entry.moment())
            .filter(|moment| *moment > switch.moment())
            .min(),
    }
}

/// Rule 3: returns what traffic reaches at `m`.
fn live_at(changes: &[&Entry], m: Moment) -> Option<LiveRelease> {
    let counts = |entry: &&&Entry| {
        if entry.is("traffic.switched") {
            effective_from(changes, entry).is_some_and(|from| from <= m)
        } else {
            entry.optional("slot").is_none()
        }
    };
    let latest = changes
        .iter()
        .filter(|entry| entry.moment() <= m)
        .filter(counts)
        .max_by_key(|entry| entry.moment())?;
    match &*latest.kind {
        "deploy.succeeded" => {
            Some(LiveRelease { slot: None, release: latest.release(), since: latest.position })
        }
        "traffic.switched" => match content(changes, latest.text("slot"), m) {
            Content::Filled(deploy) => {
                let since = deploy.moment().max(latest.moment()).1;
                Some(LiveRelease {
                    slot: latest.optional("slot").map(str::to_owned),
                    release: deploy.release(),
                    since,
                })
            }
            _ => None,
        },
        _ => None,
    }
}
