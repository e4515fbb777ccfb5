//! In-memory projection of lanes: what each lane runs, and the rows that its changes produce.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::retirement::{RetirementStatus, Retirements};
use ledger_domain::{
    Anomaly, Applied, CompositionIndex, Effect, EnvironmentName, EventRef, Lane, LaneFold, LaneRef,
    LiveRelease, Position, Release, ServiceName, ShortText, TargetName, Track, TrackEntry,
};
use sqlx::PgConnection;

use crate::bulk_insert::BatchStatement;
use crate::postgres::Error;
use crate::tables::deploys::LaterChange;
use crate::tables::environments::EnvironmentProjection;
use crate::tables::lanes::{
    IrregularLaneInsert, LaneChangeInsert, LoadedTrack, TrackUpsert, load_irregular, load_removals,
    load_slotted, load_tracks,
};
use crate::tables::live::{LiveChange, LiveChangeInsert, ReorderingInsert};
use crate::tables::retirements;

/// In-memory projection of all lanes.
#[derive(Default)]
pub(crate) struct LaneProjection {
    environments: HashMap<EnvironmentName, Environment>,
    /// Number of tracks, which is also the last track id.
    tracks: i32,
    dirty: BTreeSet<(Lane, Track)>,
}

#[derive(Default)]
struct Environment {
    lanes: BTreeMap<ServiceName, BTreeMap<TargetName, LaneState>>,
    index: CompositionIndex,
    retirements: Retirements,
}

#[derive(Default)]
struct LaneState {
    fold: LaneFold,
    ids: BTreeMap<Track, i32>,
    /// Last late report of each track since its last change.
    late: BTreeMap<Track, Position>,
    /// True if memory holds the whole history of the lane.
    has_full_history: bool,
    /// True if queries read the whole history of the lane.
    is_irregular: bool,
    /// Live release, as last recorded.
    live: Option<LiveRelease>,
}

/// Change of a lane by a report.
pub(crate) struct LaneChange<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) track: Track,
    pub(crate) effect: Effect,
    pub(crate) deployment: Option<&'a ShortText>,
}

/// Lane rows that a batch adds.
#[derive(Default)]
pub(crate) struct LaneRows {
    changes: Vec<LaneChangeInsert>,
    irregular: Vec<IrregularLaneInsert>,
    live: Vec<LiveChangeInsert>,
    reorderings: Vec<ReorderingInsert>,
}

impl LaneRows {
    pub(crate) fn add_to(self, statement: &mut BatchStatement) -> Result<(), Error> {
        statement.insert(self.changes)?;
        statement.insert(self.irregular)?;
        statement.insert(self.live)?;
        statement.insert(self.reorderings)
    }
}

impl LaneState {
    /// Returns the live release, given the retirement state of the environment.
    fn live_release(&self, standing: RetirementStatus) -> Option<LiveRelease> {
        self.fold.live_under(standing).map(LiveRelease::to_owned)
    }

    /// Returns true if a change that occurred later hides a report: a change of the same track, or a removal of the
    /// lane.
    fn hides(&self, track: &Track, report: Position) -> bool {
        let Some(kept) = self.fold.last_change(track) else { return false };
        let is_emptied = match (track, &kept.effect) {
            (Track::Slot(slot), Effect::Deployed(_)) => !self.fold.is_filled(slot),
            _ => false,
        };
        kept.since.position != report || is_emptied
    }

    fn add(&mut self, loaded: LoadedTrack) {
        self.ids.insert(loaded.track.clone(), loaded.track_id);
        self.late.extend(loaded.late.map(|late| (loaded.track.clone(), late)));
        if let Some(entry) = loaded.entry {
            self.fold.insert(loaded.track, entry);
        }
    }
}

impl LaneProjection {
    pub(crate) async fn load(
        connection: &mut PgConnection,
        environments: &EnvironmentProjection,
    ) -> Result<Self, Error> {
        let mut all = Self::default();
        for (id, occurred_at, position, retires) in retirements::load(connection).await? {
            if let Some(name) = environments.name(id) {
                all.environment(name).retirements.add(occurred_at, position, retires);
            }
        }
        for loaded in load_slotted(connection).await? {
            let state = all.state(&loaded.lane);
            state.has_full_history = true;
            state.add(loaded);
        }
        for loaded in load_tracks(connection).await? {
            all.tracks = all.tracks.max(loaded.track_id);
            let state = all.state(&loaded.lane);
            if !state.has_full_history {
                state.add(loaded);
            } else {
                state.late.extend(loaded.late.map(|late| (loaded.track.clone(), late)));
                state.ids.insert(loaded.track, loaded.track_id);
            }
        }
        for loaded in load_removals(connection).await? {
            let state = all.state(&loaded.lane);
            let is_last = loaded.entry == state.fold.changes().last().map(|(_, entry)| entry.clone());
            if !state.has_full_history && !is_last {
                state.add(loaded);
            }
        }
        for lane in load_irregular(connection).await? {
            all.state(&lane).is_irregular = true;
        }
        for environment in all.environments.values_mut() {
            let standing = environment.retirements.last();
            for (service, targets) in &mut environment.lanes {
                for (target, state) in targets {
                    state.live = state.live_release(standing);
                    let release = state.live.as_ref().map(|live| &live.release);
                    environment.index.set(service, target, release);
                }
            }
        }
        Ok(all)
    }

    fn environment(&mut self, name: &EnvironmentName) -> &mut Environment {
        if !self.environments.contains_key(name) {
            self.environments.insert(name.clone(), Environment::default());
        }
        self.environments.entry(name.clone()).or_default()
    }

    fn state(&mut self, lane: &Lane) -> &mut LaneState {
        let targets = self.environment(&lane.environment).lanes.entry(lane.service.clone()).or_default();
        targets.entry(lane.target.clone()).or_default()
    }

    /// Resolves the target of a report that changes a lane: the target that it names, else the only target of the
    /// service. The error lists the targets if there are several.
    pub(crate) fn target_of(&self, lane: &LaneRef) -> Result<TargetName, Vec<TargetName>> {
        let Some(environment) = self.environments.get(&lane.environment) else { return lane.only_target([]) };
        let standing = environment.retirements.last();
        let lanes = environment.lanes.get(&lane.service).into_iter().flatten();
        lane.only_target(lanes.map(|(target, state)| (target, state.fold.occupancy(standing))))
    }

    /// Returns whether the service is new in its environment, and whether the lane is.
    pub(crate) fn is_new(&self, lane: &Lane) -> (bool, bool) {
        let environment = self.environments.get(&lane.environment);
        let targets = environment.and_then(|environment| environment.lanes.get(&lane.service));
        (targets.is_none(), targets.is_none_or(|targets| !targets.contains_key(&lane.target)))
    }

    /// Returns which changes a lane already has that occurred later than a report of a version.
    pub(crate) fn later(&self, lane: &Lane, since: &EventRef, version: Option<&ShortText>) -> LaterChange {
        let targets = self.environments.get(&lane.environment).and_then(|it| it.lanes.get(&lane.service));
        let Some(state) = targets.and_then(|targets| targets.get(&lane.target)) else {
            return LaterChange::Nothing;
        };
        let later = || state.fold.changes().iter().filter(|(_, other)| since.order(&other.since).is_lt());
        let is_same = |effect: &Effect| match effect {
            Effect::Deployed(release) => Some(&release.version) == version,
            Effect::Removed | Effect::SwitchedTo(_) => false,
        };
        match (later().find(|(_, other)| is_same(&other.effect)), later().next()) {
            (Some((_, same)), _) => LaterChange::SameVersion(same.since.occurred_at),
            (None, Some(_)) => LaterChange::Other,
            (None, None) => LaterChange::Nothing,
        }
    }

    /// Returns true if an environment was retired at a time, as known now.
    pub(crate) fn is_retired(&self, environment: &EnvironmentName, at: DateTime<Utc>) -> bool {
        let environment = self.environments.get(environment);
        environment.is_some_and(|it| it.retirements.at(at).retired_by().is_some())
    }

    /// Returns the lanes of an environment.
    pub(crate) fn of(&self, environment: &EnvironmentName) -> impl Iterator<Item = Lane> {
        let name = environment.clone();
        let services = self.environments.get(environment).into_iter().flat_map(|it| &it.lanes);
        let lanes =
            services.flat_map(|(service, targets)| targets.keys().map(move |target| (service, target)));
        lanes.map(move |(service, target)| Lane {
            environment: name.clone(),
            service: service.clone(),
            target: target.clone(),
        })
    }

    /// Replaces the changes in memory of a lane with its whole history.
    pub(crate) fn replace(&mut self, lane: &Lane, fold: LaneFold) {
        let state = self.state(lane);
        state.fold = fold;
        state.has_full_history = true;
    }

    /// Reverts the change that a corrected event made in a lane.
    pub(crate) fn take_back(
        &mut self,
        lane: &Lane,
        corrected: Position,
        since: &EventRef,
        environments: &mut EnvironmentProjection,
        rows: &mut LaneRows,
    ) {
        let environment_id = environments.named(&lane.environment, since.position);
        let state = self.state(lane);
        let changes = state.fold.changes().iter();
        let mut of_event = changes.filter(|(_, entry)| entry.since.position == corrected);
        let Some(occurred_at) = of_event.next().map(|(_, entry)| entry.since.occurred_at) else { return };
        let Some(track) = state.fold.remove(corrected) else { return };
        if !state.is_irregular {
            state.is_irregular = true;
            rows.irregular.push(IrregularLaneInsert::new(environment_id, lane, since.position));
        }
        // Late reports that the corrected change hid may not be hidden any more.
        let late: Vec<(Track, Position)> =
            state.late.iter().map(|(track, at)| (track.clone(), *at)).collect();
        let revealed = late.into_iter().filter(|(track, at)| *at == corrected || !state.hides(track, *at));
        let revealed: Vec<Track> = revealed.map(|(track, _)| track).collect();
        for track in &revealed {
            state.late.remove(track);
        }
        self.dirty.extend(revealed.into_iter().chain([track]).map(|track| (lane.clone(), track)));
        // What ran since the corrected event differs from what was recorded. If the correction states an earlier time, the
        // change of the composition is recorded at that time, when the lane ran something else.
        let overtaken = environments.change_occurred(&lane.environment, since.occurred_at);
        let from = occurred_at.min(since.occurred_at);
        let until = overtaken.unwrap_or(since.occurred_at);
        if from < until {
            rows.reorderings.push(ReorderingInsert::new(environment_id, since.position, (from, until)));
        }
    }

    /// Applies one change and adds its rows. [`Self::record`] then records what the lane runs.
    pub(crate) fn apply(
        &mut self,
        changed: LaneChange<'_>,
        since: &EventRef,
        environments: &mut EnvironmentProjection,
        rows: &mut LaneRows,
    ) -> Vec<Anomaly> {
        let LaneChange { lane, track, effect, deployment } = changed;
        let environment_id = environments.named(&lane.environment, since.position);
        if let Effect::Deployed(release) = &effect
            && release.parts().into_iter().skip(1).any(|part| !part.is_empty())
        {
            environments.has_parts(&lane.environment);
        }
        let overtaken = environments.change_occurred(&lane.environment, since.occurred_at);
        if let Some(until) = overtaken {
            rows.reorderings.push(ReorderingInsert::new(
                environment_id,
                since.position,
                (since.occurred_at, until),
            ));
        }
        let next = self.tracks + 1;
        let environment = self.environment(&lane.environment);
        // A report from before the retirement that still holds is judged by what counted at its time.
        let standing = match environment.retirements.last() {
            RetirementStatus::Retired(_) => environment.retirements.at(since.occurred_at),
            active @ RetirementStatus::Active(_) => active,
        };
        let precedes_retirement = environment.retirements.is_before_end_of_last(since.occurred_at);
        let targets = environment.lanes.entry(lane.service.clone()).or_default();
        let state = targets.entry(lane.target.clone()).or_default();
        let track_id = *state.ids.entry(track.clone()).or_insert(next);
        let entry = TrackEntry { effect, since: since.clone() };
        let is_removal = track == Track::Traffic && entry.effect == Effect::Removed;
        // Judge the anomaly by the changes since the last retirement, but lateness by all changes.
        let current = match standing {
            RetirementStatus::Active(Some(_)) => {
                let counting = state.fold.without_discarded_changes(standing);
                Some(counting.into_owned().apply(&track, entry.clone()))
            }
            RetirementStatus::Active(None) | RetirementStatus::Retired(_) => None,
        };
        let whole = state.fold.apply(&track, entry.clone());
        let (late, behind) = (whole.late, whole.behind);
        let mut applied = Applied { late, behind, ..current.unwrap_or(whole) };
        // Compaction may have dropped the changes before a late removal, so do not report that it removed nothing.
        applied.anomaly = applied.anomaly.filter(|it| !behind || *it != Anomaly::RemovedNothing);
        let has_slots = state.ids.keys().any(|track| *track != Track::Traffic);
        let is_ineffective_switch =
            matches!(applied.anomaly, Some(Anomaly::SwitchPending | Anomaly::SwitchedToEmptySlot));
        let may_be_irregular = is_ineffective_switch || has_slots && (is_removal || applied.behind);
        if may_be_irregular
            && !state.is_irregular
            && (is_ineffective_switch || !is_regular(&state.fold, standing))
        {
            state.is_irregular = true;
            rows.irregular.push(IrregularLaneInsert::new(environment_id, lane, since.position));
        }
        if !state.has_full_history {
            state.fold.compact();
            // When the lane gets its first slot, memory still has every change that can matter (see `compact`): keep
            // them all from then on.
            state.has_full_history = has_slots || is_ineffective_switch;
        }
        let lateness = (applied.late, applied.behind);
        rows.changes.push(LaneChangeInsert::new((track_id, environment_id), &entry, deployment, lateness));
        match state.hides(&track, since.position) {
            true => state.late.insert(track.clone(), since.position),
            false => state.late.remove(&track),
        };
        self.dirty.insert((lane.clone(), track));
        self.tracks = self.tracks.max(track_id);
        let late = applied.behind.then_some(Anomaly::Late);
        // Of changes before the last retirement, memory may know nothing, so do not report what contradicts them.
        late.into_iter().chain(applied.anomaly.filter(|_| !precedes_retirement)).collect()
    }

    /// Records a retirement or a declaration of an environment. Returns the lanes that may run something else as a
    /// result.
    pub(crate) fn retire(
        &mut self,
        name: &EnvironmentName,
        retires: bool,
        since: &EventRef,
        environments: &mut EnvironmentProjection,
        rows: &mut LaneRows,
    ) -> Vec<Lane> {
        let environment_id = environments.named(name, since.position);
        let environment = self.environment(name);
        environment.retirements.add(since.occurred_at, since.position, retires);
        if environment.retirements.is_empty() {
            return Vec::new();
        }
        let standing = environment.retirements.last();
        for (service, targets) in &mut environment.lanes {
            for (target, state) in targets {
                if !state.is_irregular && !is_regular(&state.fold, standing) {
                    state.is_irregular = true;
                    let (service, target) = (service.clone(), target.clone());
                    let lane = Lane { environment: name.clone(), service, target };
                    rows.irregular.push(IrregularLaneInsert::new(environment_id, &lane, since.position));
                }
            }
        }
        if let Some(until) = environments.change_occurred(name, since.occurred_at) {
            rows.reorderings.push(ReorderingInsert::new(
                environment_id,
                since.position,
                (since.occurred_at, until),
            ));
        }
        self.of(name).collect()
    }

    /// Records what these lanes of an environment run after an event. If any of them runs another release, that is one
    /// change of the environment's composition. Returns the version that went live, if any.
    pub(crate) fn record(
        &mut self,
        name: &EnvironmentName,
        lanes: &[Lane],
        at: &EventRef,
        environments: &mut EnvironmentProjection,
        rows: &mut LaneRows,
    ) -> Option<ShortText> {
        let environment_id = environments.named(name, at.position);
        let environment = self.environment(name);
        let standing = environment.retirements.last();
        let mut altered = Vec::new();
        for lane in lanes {
            let key = (lane.service.clone(), lane.target.clone());
            let targets = environment.lanes.get_mut(&key.0);
            let Some(state) = targets.and_then(|targets| targets.get_mut(&key.1)) else { continue };
            let live = state.live_release(standing);
            let release = |live: &Option<LiveRelease>| live.as_ref().map(|live| live.release.clone());
            let before = std::mem::replace(&mut state.live, live);
            if release(&before) != release(&state.live) {
                let release: Option<Release> = release(&state.live);
                environment.index.set(&key.0, &key.1, release.as_ref());
                altered.push((key, before, release));
            }
        }
        if altered.is_empty() {
            return None;
        }
        let composition = environment.index.id();
        let number = environments.changed(name)?;
        let mut went_live = None;
        for ((service, target), before, release) in altered {
            went_live = went_live.or_else(|| release.as_ref().map(|release| release.version.clone()));
            let at = at.clone();
            let change =
                LiveChange { environment_id, number, service, target, at, release, before, composition };
            rows.live.push(change.into());
        }
        went_live
    }

    /// Returns the rows of the tracks with a last change that differs from that at the last call.
    pub(crate) fn take_rows(&mut self, environments: &mut EnvironmentProjection) -> Vec<TrackUpsert> {
        let mut rows = Vec::new();
        for (lane, track) in std::mem::take(&mut self.dirty) {
            let targets = self.environments.get(&lane.environment).and_then(|it| it.lanes.get(&lane.service));
            let state = targets.and_then(|targets| targets.get(&lane.target));
            let row = state.and_then(|state| {
                Some((
                    *state.ids.get(&track)?,
                    state.fold.last_change(&track)?,
                    state.late.get(&track).copied(),
                ))
            });
            if let Some((track_id, entry, late)) = row {
                let environment_id = environments.named(&lane.environment, entry.since.position);
                rows.push(TrackUpsert::new((track_id, environment_id), &lane, &track, (entry, late)));
            }
        }
        rows
    }
}

fn is_regular(fold: &LaneFold, standing: RetirementStatus) -> bool {
    match standing {
        RetirementStatus::Active(Some(_)) => {
            fold.is_regular() && fold.without_discarded_changes(standing).is_regular()
        }
        RetirementStatus::Active(None) | RetirementStatus::Retired(_) => fold.is_regular(),
    }
}
