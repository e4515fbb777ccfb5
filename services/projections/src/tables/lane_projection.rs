//! All lanes in the projector's memory: what each runs, and the rows that a change of it gives.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::retirement::{Retirements, Standing};
use ledger_domain::{
    Anomaly, Applied, CompositionIndex, Effect, EnvironmentName, Lane, LaneFold, LaneRef, LiveRelease,
    Position, Release, ServiceName, ShortText, Since, TargetName, Track, TrackEntry,
};
use sqlx::PgConnection;

use crate::postgres::Error;
use crate::tables::deploys::Later;
use crate::tables::environments::EnvironmentsFold;
use crate::tables::lanes::{
    IrregularRows, LaneChangeRows, LoadedTrack, TrackRows, load_irregular, load_removals, load_slotted,
    load_tracks,
};
use crate::tables::live::{LiveChange, LiveChangeRows, ReorderingRows};
use crate::tables::retirements;

/// All lanes, and the rows that they give.
#[derive(Default)]
pub(crate) struct LaneProjection {
    environments: HashMap<EnvironmentName, Environment>,
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
    /// The last late report of each track since its last change.
    late: BTreeMap<Track, Position>,
    /// Its whole history is in memory.
    is_whole: bool,
    /// Its whole history is read by questions.
    is_irregular: bool,
    /// What it runs, as it was last recorded.
    live: Option<LiveRelease>,
}

/// What a report changes.
pub(crate) struct Changed<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) track: Track,
    pub(crate) effect: Effect,
    pub(crate) deployment: Option<&'a ShortText>,
}

/// The rows of lanes that a batch adds.
#[derive(Default)]
pub(crate) struct LaneRows {
    changes: LaneChangeRows,
    irregular: IrregularRows,
    live: LiveChangeRows,
    reorderings: ReorderingRows,
}

impl LaneRows {
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        self.changes.write(&mut *connection).await?;
        self.irregular.write(&mut *connection).await?;
        self.live.write(&mut *connection).await?;
        self.reorderings.write(connection).await
    }
}

impl LaneState {
    /// What it runs where the environment stands like this.
    fn runs(&self, standing: Standing) -> Option<LiveRelease> {
        match standing {
            Standing::Retired(_) => None,
            Standing::Open(None) => self.fold.live().map(LiveRelease::to_owned),
            Standing::Open(Some(until)) => self.fold.after(until).live().map(LiveRelease::to_owned),
        }
    }

    fn holds_anything(&self, standing: Standing) -> bool {
        match standing {
            Standing::Retired(_) => false,
            Standing::Open(None) => self.fold.holds_anything(),
            Standing::Open(Some(until)) => self.fold.after(until).holds_anything(),
        }
    }

    fn has_changes(&self, standing: Standing) -> bool {
        match standing {
            Standing::Retired(_) => false,
            Standing::Open(until) => {
                let last = self.fold.changes().last();
                last.is_some_and(|(_, last)| until.is_none_or(|until| last.since.occurred_at >= until))
            }
        }
    }

    /// Returns true if a change that occurred later hides what a report says: one of its track, or a removal of the lane.
    fn hides(&self, track: &Track, report: Position) -> bool {
        let Some(kept) = self.fold.kept(track) else { return false };
        let is_emptied = match (track, &kept.effect) {
            (Track::Slot(slot), Effect::Deployed(_)) => !self.fold.is_filled(slot),
            _ => false,
        };
        kept.since.position != report || is_emptied
    }

    fn add(&mut self, loaded: LoadedTrack) {
        self.ids.insert(loaded.track.clone(), loaded.track_id);
        self.late.extend(loaded.late.map(|late| (loaded.track.clone(), late)));
        if let Some(written) = loaded.written {
            self.fold.insert(loaded.track, written);
        }
    }
}

impl LaneProjection {
    pub(crate) async fn load(
        connection: &mut PgConnection,
        environments: &EnvironmentsFold,
    ) -> Result<Self, Error> {
        let mut all = Self::default();
        for (id, occurred_at, position, retires) in retirements::load(connection).await? {
            if let Some(name) = environments.name(id) {
                all.environment(name).retirements.add(occurred_at, position, retires);
            }
        }
        for loaded in load_slotted(connection).await? {
            let state = all.state(&loaded.lane);
            state.is_whole = true;
            state.add(loaded);
        }
        for loaded in load_tracks(connection).await? {
            all.tracks = all.tracks.max(loaded.track_id);
            let state = all.state(&loaded.lane);
            if !state.is_whole {
                state.add(loaded);
            } else {
                state.late.extend(loaded.late.map(|late| (loaded.track.clone(), late)));
                state.ids.insert(loaded.track, loaded.track_id);
            }
        }
        for loaded in load_removals(connection).await? {
            let state = all.state(&loaded.lane);
            let is_last = loaded.written == state.fold.changes().last().map(|(_, written)| written.clone());
            if !state.is_whole && !is_last {
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
                    state.live = state.runs(standing);
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

    /// The target that a report means which changes a lane: the one that it names; else the only one that the service has. An
    /// error names those that it has.
    pub(crate) fn target_of(&self, lane: &LaneRef) -> Result<TargetName, Vec<TargetName>> {
        if let Some(target) = &lane.target {
            return Ok(target.clone());
        }
        let Some(environment) = self.environments.get(&lane.environment) else {
            return Ok(TargetName::default());
        };
        let standing = environment.retirements.last();
        let lanes = || environment.lanes.get(&lane.service).into_iter().flatten();
        let holding = lanes().filter(|(_, state)| state.holds_anything(standing));
        let mut targets: Vec<&TargetName> = holding.map(|(target, _)| target).collect();
        if targets.is_empty() {
            let counting = lanes().filter(|(_, state)| state.has_changes(standing));
            targets = counting.map(|(target, _)| target).collect();
        }
        match targets[..] {
            [] => Ok(TargetName::default()),
            [one] => Ok(one.clone()),
            ref several => Err(several.iter().map(|target| (*target).clone()).collect()),
        }
    }

    /// Whether a service, or a lane of it at a target, was never named before in its environment.
    pub(crate) fn is_new(&self, lane: &Lane) -> (bool, bool) {
        let environment = self.environments.get(&lane.environment);
        let targets = environment.and_then(|environment| environment.lanes.get(&lane.service));
        (targets.is_none(), targets.is_none_or(|targets| !targets.contains_key(&lane.target)))
    }

    /// Returns what a lane already has that occurred later than a report of a version.
    pub(crate) fn later(&self, lane: &Lane, since: &Since, version: Option<&ShortText>) -> Later {
        let targets = self.environments.get(&lane.environment).and_then(|it| it.lanes.get(&lane.service));
        let Some(state) = targets.and_then(|targets| targets.get(&lane.target)) else {
            return Later::Nothing;
        };
        let later = || state.fold.changes().iter().filter(|(_, other)| since.order(&other.since).is_lt());
        let is_same = |effect: &Effect| match effect {
            Effect::Deployed(release) => Some(&release.version) == version,
            Effect::Removed | Effect::SwitchedTo(_) => false,
        };
        match (later().find(|(_, other)| is_same(&other.effect)), later().next()) {
            (Some((_, same)), _) => Later::SameVersion(same.since.occurred_at),
            (None, Some(_)) => Later::Others,
            (None, None) => Later::Nothing,
        }
    }

    /// Whether an environment was retired at a time, as far as is known.
    pub(crate) fn is_retired(&self, environment: &EnvironmentName, at: DateTime<Utc>) -> bool {
        let environment = self.environments.get(environment);
        environment.is_some_and(|it| matches!(it.retirements.at(at), Standing::Retired(_)))
    }

    /// The lanes of an environment.
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

    /// Replaces what is known of a lane by its whole history.
    pub(crate) fn replace(&mut self, lane: &Lane, fold: LaneFold) {
        let state = self.state(lane);
        state.fold = fold;
        state.is_whole = true;
    }

    /// Takes back the change that a corrected event made in a lane.
    pub(crate) fn take_back(
        &mut self,
        lane: &Lane,
        corrected: Position,
        since: &Since,
        environments: &mut EnvironmentsFold,
        rows: &mut LaneRows,
    ) {
        let environment_id = environments.named(&lane.environment, since.position);
        let state = self.state(lane);
        let changes = state.fold.changes().iter();
        let mut of_event = changes.filter(|(_, written)| written.since.position == corrected);
        let Some(occurred_at) = of_event.next().map(|(_, written)| written.since.occurred_at) else { return };
        let Some(track) = state.fold.take_back(corrected) else { return };
        if !state.is_irregular {
            state.is_irregular = true;
            rows.irregular.push(environment_id, lane, since.position);
        }
        // Reports that it hid may show now.
        let late: Vec<(Track, Position)> =
            state.late.iter().map(|(track, at)| (track.clone(), *at)).collect();
        let shown = late.into_iter().filter(|(track, at)| *at == corrected || !state.hides(track, *at));
        let shown: Vec<Track> = shown.map(|(track, _)| track).collect();
        for track in &shown {
            state.late.remove(track);
        }
        self.dirty.extend(shown.into_iter().chain([track]).map(|track| (lane.clone(), track)));
        // What ran since the corrected event is not what was recorded.
        let overtaken = environments.change_occurred(&lane.environment, since.occurred_at);
        let until = overtaken.unwrap_or(since.occurred_at);
        if occurred_at < until {
            rows.reorderings.push(environment_id, since.position, (occurred_at, until));
        }
    }

    /// Applies one change, and adds its rows. What the lane runs by it is recorded by [`Self::record`].
    pub(crate) fn apply(
        &mut self,
        changed: Changed<'_>,
        since: &Since,
        environments: &mut EnvironmentsFold,
        rows: &mut LaneRows,
    ) -> Vec<Anomaly> {
        let Changed { lane, track, effect, deployment } = changed;
        let environment_id = environments.named(&lane.environment, since.position);
        if let Effect::Deployed(release) = &effect
            && release.parts().into_iter().skip(1).any(|part| !part.is_empty())
        {
            environments.has_parts(&lane.environment);
        }
        let overtaken = environments.change_occurred(&lane.environment, since.occurred_at);
        if let Some(until) = overtaken {
            rows.reorderings.push(environment_id, since.position, (since.occurred_at, until));
        }
        let next = self.tracks + 1;
        let environment = self.environment(&lane.environment);
        let standing = environment.retirements.last();
        let targets = environment.lanes.entry(lane.service.clone()).or_default();
        let state = targets.entry(lane.target.clone()).or_default();
        let track_id = *state.ids.entry(track.clone()).or_insert(next);
        let written = TrackEntry { effect, since: since.clone() };
        let is_removal = track == Track::Traffic && written.effect == Effect::Removed;
        // What it contradicts is judged by what is left of the lane; whether it is late, by all that it ever had.
        let left = match standing {
            Standing::Open(Some(until)) => Some(state.fold.after(until).apply(&track, written.clone())),
            Standing::Open(None) | Standing::Retired(_) => None,
        };
        let whole = state.fold.apply(&track, written.clone());
        let (late, behind) = (whole.late, whole.behind);
        let mut applied = Applied { late, behind, ..left.unwrap_or(whole) };
        // What stood before a late removal may be forgotten.
        applied.anomaly = applied.anomaly.filter(|it| !behind || *it != Anomaly::RemovedNothing);
        let has_slots = state.ids.keys().any(|track| *track != Track::Traffic);
        let is_passed_over =
            matches!(applied.anomaly, Some(Anomaly::SwitchPending | Anomaly::SwitchedToEmptySlot));
        let may_be_irregular = is_passed_over || has_slots && (is_removal || applied.behind);
        if may_be_irregular && !state.is_irregular && (is_passed_over || !regular(&state.fold, standing)) {
            state.is_irregular = true;
            rows.irregular.push(environment_id, lane, since.position);
        }
        if !state.is_whole {
            state.fold.compact();
            // With the first slot, all of the history that can matter is in memory (see `compact`), and stays there.
            state.is_whole = has_slots || is_passed_over;
        }
        rows.changes.push((track_id, environment_id), &written, deployment, (applied.late, applied.behind));
        match state.hides(&track, since.position) {
            true => state.late.insert(track.clone(), since.position),
            false => state.late.remove(&track),
        };
        self.dirty.insert((lane.clone(), track));
        self.tracks = self.tracks.max(track_id);
        let late = applied.behind.then_some(Anomaly::Late);
        late.into_iter().chain(applied.anomaly).collect()
    }

    /// Records a retirement or a declaration of an environment; returns the lanes that may run something else by it.
    pub(crate) fn retire(
        &mut self,
        name: &EnvironmentName,
        retires: bool,
        since: &Since,
        environments: &mut EnvironmentsFold,
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
                if !state.is_irregular && !regular(&state.fold, standing) {
                    state.is_irregular = true;
                    let (service, target) = (service.clone(), target.clone());
                    let lane = Lane { environment: name.clone(), service, target };
                    rows.irregular.push(environment_id, &lane, since.position);
                }
            }
        }
        if let Some(until) = environments.change_occurred(name, since.occurred_at) {
            rows.reorderings.push(environment_id, since.position, (since.occurred_at, until));
        }
        self.of(name).collect()
    }

    /// Records what lanes of an environment run after an event, as one change of its composition if any runs something else;
    /// returns the version that went live, if one did.
    pub(crate) fn record(
        &mut self,
        name: &EnvironmentName,
        lanes: &[Lane],
        at: &Since,
        environments: &mut EnvironmentsFold,
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
            let live = state.runs(standing);
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
            rows.live.0.push(LiveChange {
                environment_id,
                number,
                service,
                target,
                at,
                release,
                before,
                composition,
            });
        }
        went_live
    }

    /// The rows of the tracks that have another last change than when this was called before.
    pub(crate) fn take_rows(&mut self, environments: &mut EnvironmentsFold) -> TrackRows {
        let mut rows = TrackRows::default();
        for (lane, track) in std::mem::take(&mut self.dirty) {
            let targets = self.environments.get(&lane.environment).and_then(|it| it.lanes.get(&lane.service));
            let state = targets.and_then(|targets| targets.get(&lane.target));
            let kept = state.and_then(|state| {
                Some((*state.ids.get(&track)?, state.fold.kept(&track)?, state.late.get(&track).copied()))
            });
            if let Some((track_id, written, late)) = kept {
                let environment_id = environments.named(&lane.environment, written.since.position);
                rows.push((track_id, environment_id), &lane, &track, (written, late));
            }
        }
        rows
    }
}

fn regular(fold: &LaneFold, standing: Standing) -> bool {
    match standing {
        Standing::Open(Some(until)) => fold.is_regular() && fold.after(until).is_regular(),
        Standing::Open(None) | Standing::Retired(_) => fold.is_regular(),
    }
}
