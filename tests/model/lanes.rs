//! What lanes run: section 1 of decision 0015, computed from all entries for each question.

use crate::entry::{Entry, FOREVER, Moment, NEVER, Release};

/// A history, and how each report found its target when it was recorded.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// All entries, by position.
    pub(crate) entries: Vec<Entry>,
    /// For each entry the target of its lane, if it has one.
    targets: Vec<Placed>,
    /// The entries that correct others.
    corrections: Vec<Entry>,
}

/// The target of a report, as found when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The entry is no report of a lane.
    Nowhere,
    /// The target.
    At(String),
    /// The service had several targets, and the report named none.
    Ambiguous,
}

/// What traffic reaches in a lane.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) slot: Option<String>,
    pub(crate) release: Release,
    /// The position of the later of the switch and the deploy.
    pub(crate) since: u64,
}

/// A lane that runs something, or a slot that holds something.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) service: String,
    pub(crate) target: String,
    pub(crate) live: Live,
}

/// What an environment ran.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// What traffic reaches, by service and target.
    pub(crate) lanes: Vec<Running>,
    /// The filled slots that traffic does not reach.
    pub(crate) idle: Vec<Running>,
}

impl State {
    /// The lanes with their releases, artifacts by identity; slots are no part of it.
    pub(crate) fn identity(&self) -> Vec<Vec<String>> {
        let key = |lane: &Running| {
            let mut key = vec![lane.service.clone(), lane.target.clone()];
            key.extend(lane.live.release.key());
            key
        };
        self.lanes.iter().map(key).collect()
    }

    /// The same with the artifacts' texts.
    pub(crate) fn text(&self) -> String {
        self.lanes
            .iter()
            .map(|lane| format!("{} {} {:?}\n", lane.service, lane.target, lane.live.release))
            .collect()
    }

    pub(crate) fn live(&self, service: &str, target: &str) -> Option<&Live> {
        let lane = self.lanes.iter().find(|lane| lane.service == service && lane.target == target);
        lane.map(|lane| &lane.live)
    }
}

/// What stands in a slot.
pub(crate) enum Content<'m> {
    /// Nothing is known of it.
    Unknown,
    /// It was emptied.
    Empty,
    /// It was filled by this deploy.
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
            let placed = model.place(index);
            model.targets.push(placed);
        }
        model
    }

    /// The position of the last entry.
    pub(crate) fn head(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.position)
    }

    pub(crate) fn at(&self, position: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.position == position)
    }

    /// The target of an entry's lane. One that is not placed yet is nowhere.
    pub(crate) fn placed(&self, entry: &Entry) -> &Placed {
        let index = self.entries.binary_search_by_key(&entry.position, |other| other.position).ok();
        index.and_then(|index| self.targets.get(index)).unwrap_or(&Placed::Nowhere)
    }

    /// Finds the target of an entry: that which it names, or the only one that the service has before it.
    fn place(&self, index: usize) -> Placed {
        let entry = &self.entries[index];
        if !entry.has_lane() {
            return Placed::Nowhere;
        }
        if let Some(target) = entry.maybe("target") {
            return Placed::At(target.to_owned());
        }
        let targets = self.targets_of(entry.text("environment"), entry.text("service"), entry.position - 1);
        match targets.len() {
            0 => Placed::At("default".to_owned()),
            1 => Placed::At(targets[0].clone()),
            _ => Placed::Ambiguous,
        }
    }

    /// The targets that a service has, as known at K.
    pub(crate) fn targets_of(&self, environment: &str, service: &str, k: u64) -> Vec<String> {
        let state = self.state(environment, FOREVER, k);
        let mut targets = Vec::new();
        for lane in state.lanes.iter().chain(&state.idle) {
            if lane.service == service && !targets.contains(&lane.target) {
                targets.push(lane.target.clone());
            }
        }
        if targets.is_empty() {
            for (other, target) in self.lanes_of(environment, FOREVER, k) {
                if other == service {
                    targets.push(target);
                }
            }
        }
        targets.sort();
        targets
    }

    /// True if a correction that is known at K replaces the entry.
    fn is_replaced(&self, entry: &Entry, k: u64) -> bool {
        if self.corrections.is_empty() || !entry.is_correctable() {
            return false;
        }
        let identity = (&*entry.source, &*entry.id);
        let own = entry.corrects().filter(|_| self.corrected(entry, k).is_some());
        self.corrections.iter().any(|other| {
            let names = other.corrects().filter(|_| other.position <= k);
            // It names the entry, or what the entry corrected before it.
            let named = names == Some(identity) && other.position != entry.position;
            named || (own.is_some() && names == own && other.position > entry.position)
        })
    }

    /// The entry that a correction names, if it is one that can be corrected and is known at K.
    pub(crate) fn corrected(&self, entry: &Entry, k: u64) -> Option<&Entry> {
        let (source, id) = entry.corrects()?;
        let named = self.entries.iter().find(|other| other.source == source && other.id == id);
        named
            .filter(|named| named.is_correctable() && named.position <= k && named.position != entry.position)
    }

    /// The entries that are known at K and have effect.
    pub(crate) fn known(&self, k: u64) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.position <= k && !self.is_replaced(entry, k)).collect()
    }

    /// The entries of a kind in an environment that are known at K and have effect.
    pub(crate) fn known_in(&self, environment: &str, kind: &str, k: u64) -> Vec<&Entry> {
        let mut known = self.known(k);
        known.retain(|entry| entry.is(kind) && entry.text("environment") == environment);
        known
    }

    /// The intervals in which the environment is retired: from, and up to, if it was declared again.
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

    /// The moment after which changes count at `m`; none where the environment is retired.
    fn floor(&self, environment: &str, m: Moment, k: u64) -> Option<Moment> {
        let mut floor = NEVER;
        for (start, end) in self.retired(environment, k) {
            // Times decide, not positions: what occurs at the time of the declaration counts.
            match end {
                Some(end) if end.0 <= m.0 => floor = floor.max((end.0, 0)),
                _ if start.0 <= m.0 => return None,
                _ => {}
            }
        }
        Some(floor)
    }

    pub(crate) fn is_retired(&self, environment: &str, m: Moment, k: u64) -> bool {
        self.floor(environment, m, k).is_none()
    }

    /// All changes of a lane that are known at K, whether they count or not.
    pub(crate) fn changes(&self, environment: &str, service: &str, target: &str, k: u64) -> Vec<&Entry> {
        let mut changes = self.known(k);
        changes.retain(|entry| {
            entry.is_change()
                && entry.text("environment") == environment
                && entry.text("service") == service
                && *self.placed(entry) == Placed::At(target.to_owned())
        });
        changes.sort_by_key(|entry| entry.moment());
        changes
    }

    /// The changes of a lane that count at `m`.
    fn counting(&self, environment: &str, service: &str, target: &str, m: Moment, k: u64) -> Vec<&Entry> {
        let Some(floor) = self.floor(environment, m, k) else { return Vec::new() };
        let mut changes = self.changes(environment, service, target, k);
        changes.retain(|entry| floor < entry.moment() && entry.moment() <= m);
        changes
    }

    /// The lanes of which a change is known at K and counts at `m`, by service and target.
    pub(crate) fn lanes_of(&self, environment: &str, m: Moment, k: u64) -> Vec<(String, String)> {
        let mut lanes = self.all_lanes(environment, k);
        lanes.retain(|(service, target)| !self.counting(environment, service, target, m, k).is_empty());
        lanes
    }

    /// The lanes that ever had a change, as known at K.
    pub(crate) fn all_lanes(&self, environment: &str, k: u64) -> Vec<(String, String)> {
        let mut lanes = Vec::new();
        for entry in self.known(k) {
            let is_here = entry.is_change() && entry.text("environment") == environment;
            match self.placed(entry) {
                Placed::At(target) if is_here => {
                    lanes.push((entry.text("service").to_owned(), target.clone()));
                }
                _ => {}
            }
        }
        lanes.sort();
        lanes.dedup();
        lanes
    }

    /// What an environment ran at `m`, as known at K.
    pub(crate) fn state(&self, environment: &str, m: Moment, k: u64) -> State {
        let mut state = State::default();
        for (service, target) in self.lanes_of(environment, m, k) {
            let changes = self.counting(environment, &service, &target, m, k);
            let lane = |live: Live| Running { service: service.clone(), target: target.clone(), live };
            let live = reached(&changes, m);
            for slot in slots(&changes) {
                let is_reached = live.as_ref().and_then(|live| live.slot.as_deref()) == Some(&*slot);
                match content(&changes, &slot, m) {
                    Content::Filled(deploy) if !is_reached => {
                        let (release, since) = (deploy.release(), deploy.position);
                        state.idle.push(lane(Live { slot: Some(slot), release, since }));
                    }
                    _ => {}
                }
            }
            state.lanes.extend(live.map(lane));
        }
        state
    }

    /// What traffic reached in a lane at `m`, as known at K.
    pub(crate) fn live(&self, lane: [&str; 3], m: Moment, k: u64) -> Option<Live> {
        reached(&self.counting(lane[0], lane[1], lane[2], m, k), m)
    }

    /// What an environment ran after the entry at K, as known then.
    pub(crate) fn state_at(&self, environment: &str, k: u64) -> State {
        self.state(environment, FOREVER, k)
    }

    /// What stood in a slot at `m`, as known at K.
    pub(crate) fn slot(&self, lane: [&str; 3], slot: &str, m: Moment, k: u64) -> Content<'_> {
        content(&self.counting(lane[0], lane[1], lane[2], m, k), slot, m)
    }
}

/// The slots that changes of a lane name.
pub(crate) fn slots(changes: &[&Entry]) -> Vec<String> {
    let mut slots: Vec<String> =
        changes.iter().filter_map(|entry| entry.maybe("slot")).map(str::to_owned).collect();
    slots.sort();
    slots.dedup();
    slots
}

/// Rule 1: the latest of the slot's changes and the lane's removals, at or before `m`.
fn content<'m>(changes: &[&'m Entry], slot: &str, m: Moment) -> Content<'m> {
    let before = || changes.iter().filter(|entry| entry.moment() <= m);
    let of_slot = before()
        .filter(|entry| !entry.is("traffic.switched") && entry.maybe("slot") == Some(slot))
        .max_by_key(|entry| entry.moment());
    let removal = before()
        .filter(|entry| entry.is("deploy.removed") && entry.maybe("slot").is_none())
        .max_by_key(|entry| entry.moment());
    let Some(of_slot) = of_slot else { return Content::Unknown };
    let emptied = removal.is_some_and(|removal| removal.moment() > of_slot.moment());
    if emptied || of_slot.is("deploy.removed") { Content::Empty } else { Content::Filled(of_slot) }
}

/// Rule 2: the moment from which a switch is effective, if it ever is.
fn effective(changes: &[&Entry], switch: &Entry) -> Option<Moment> {
    let slot = switch.text("slot");
    match content(changes, slot, switch.moment()) {
        Content::Filled(_) => Some(switch.moment()),
        Content::Empty => None,
        Content::Unknown => changes
            .iter()
            .filter(|entry| entry.is("deploy.succeeded") && entry.maybe("slot") == Some(slot))
            .map(|entry| entry.moment())
            .filter(|moment| *moment > switch.moment())
            .min(),
    }
}

/// Rule 3: what traffic reaches at `m`.
fn reached(changes: &[&Entry], m: Moment) -> Option<Live> {
    let counts = |entry: &&&Entry| {
        if entry.is("traffic.switched") {
            effective(changes, entry).is_some_and(|from| from <= m)
        } else {
            entry.maybe("slot").is_none()
        }
    };
    let latest = changes
        .iter()
        .filter(|entry| entry.moment() <= m)
        .filter(counts)
        .max_by_key(|entry| entry.moment())?;
    match &*latest.kind {
        "deploy.succeeded" => Some(Live { slot: None, release: latest.release(), since: latest.position }),
        "traffic.switched" => match content(changes, latest.text("slot"), m) {
            Content::Filled(deploy) => {
                let since = deploy.moment().max(latest.moment()).1;
                Some(Live { slot: latest.maybe("slot").map(str::to_owned), release: deploy.release(), since })
            }
            _ => None,
        },
        _ => None,
    }
}
