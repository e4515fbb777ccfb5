//! What the lanes of an environment ran, and what checks said of it, as far as it was told.
//!
//! All of it is found out when a question is asked, as the views do: a report that comes late changes what
//! an earlier verdict belongs to, for whoever asks afterwards.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::interned::{Id, Releases, Table};
use crate::event::{Policy, Validation, ValidationSubject};
use crate::gate::Proving;
use crate::known_good::{CheckedLane, Evidence, Marked, Status, Verdict, Verdicts, judge};
use crate::{
    Artifact, Effect, EnvironmentName, LaneRef, Line, Position, Release, ServiceName, SlotName, TargetName,
    Track,
};

/// As many deploys of a version are looked at, the last ones, as the gate looks at.
const LAST_DEPLOYS: usize = 20;

/// When something occurred and where that is told: the order in which reports count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: Position,
}

/// A time in which something was so; the end does not belong to it.
pub(super) type Span = (DateTime<Utc>, DateTime<Utc>);

/// All time.
pub(super) const ALWAYS: Span = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);

/// What a change did to its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrote {
    Deployed(Id),
    Removed,
    SwitchedTo(SlotName),
}

/// A change of a lane.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) at: Moment,
    /// The slot that it was written to; none: what traffic reaches.
    pub(super) slot: Option<SlotName>,
    pub(super) wrote: Wrote,
    /// The emitter's name for the run that did it.
    deployment: Option<Id>,
    /// The track already had a change that occurred later.
    late: bool,
}

/// What a check said.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Moment,
    check: Id,
    passed: bool,
}

/// What all environments share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) releases: Releases,
    /// Names of checks and of deployments.
    lines: Table<Line>,
    of_artifacts: HashMap<Artifact, Vec<Said>>,
}

/// What a lane ran, and what checks said of it.
#[derive(Debug, Default)]
pub(super) struct LaneHistory {
    /// In the order of their moments.
    changes: Vec<Written>,
    /// When each release was deployed.
    deploys: HashMap<Id, Vec<Moment>>,
    /// What was said of releases, by the release as it was told.
    of_releases: HashMap<Id, Vec<Said>>,
    of_deployments: HashMap<Id, Vec<Said>>,
    /// What names no release, in the order of moments.
    unnamed: Vec<Said>,
}

/// An environment, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) policy: Policy,
    pub(super) marks: BTreeMap<Position, Marked>,
    pub(super) lanes: BTreeMap<ServiceName, BTreeMap<TargetName, LaneHistory>>,
    /// What was said of the whole environment, in the order of moments.
    said: Vec<Said>,
}

impl Shared {
    /// Takes down what a check said; of which environment is known already.
    pub(super) fn hear(
        &mut self,
        environment: Option<&mut Environment>,
        validation: &Validation,
        passed: bool,
        at: Moment,
    ) {
        let said = Said { at, check: self.lines.id(&validation.check), passed };
        match (&validation.subject, environment) {
            (ValidationSubject::Artifact(artifact), _) => {
                self.of_artifacts.entry(artifact.clone()).or_default().push(said);
            }
            (ValidationSubject::Environment(_), Some(environment)) => in_order(&mut environment.said, said),
            (ValidationSubject::Lane { lane, release, deployment }, Some(environment)) => {
                let history = environment.lane(&lane.service, &lane.target.clone().unwrap_or_default());
                match (release, deployment) {
                    (Some(release), _) => {
                        history.of_releases.entry(self.releases.id(release)).or_default().push(said);
                    }
                    (None, Some(deployment)) => {
                        history.of_deployments.entry(self.lines.id(deployment)).or_default().push(said);
                    }
                    (None, None) => in_order(&mut history.unnamed, said),
                }
            }
            (ValidationSubject::Environment(_) | ValidationSubject::Lane { .. }, None) => {}
        }
    }

    /// Takes down a change of a lane.
    pub(super) fn see(
        &mut self,
        environment: &mut Environment,
        (named, track, effect): (&LaneRef, &Track, &Effect),
        deployment: Option<&Line>,
        at: Moment,
    ) {
        let lane = environment.lane(&named.service, &named.target.clone().unwrap_or_default());
        let wrote = match effect {
            Effect::Deployed(release) => {
                let id = self.releases.id(release);
                lane.deploys.entry(id).or_default().push(at);
                Wrote::Deployed(id)
            }
            Effect::Removed => Wrote::Removed,
            Effect::SwitchedTo(slot) => Wrote::SwitchedTo(slot.clone()),
        };
        let slot = match track {
            Track::Traffic => None,
            Track::Slot(slot) => Some(slot.clone()),
        };
        let index = lane.changes.partition_point(|written| written.at < at);
        let late = lane.changes[index..].iter().any(|later| later.slot == slot);
        let deployment = deployment.map(|deployment| self.lines.id(deployment));
        lane.changes.insert(index, Written { at, slot, wrote, deployment, late });
    }
}

fn in_order(all: &mut Vec<Said>, said: Said) {
    let index = all.partition_point(|earlier| earlier.at < said.at);
    all.insert(index, said);
}

/// Those of what was said, in the order of moments, that fall into a span.
fn during(all: &[Said], span: Span) -> &[Said] {
    let from = all.partition_point(|said| said.at.occurred_at < span.0);
    let to = all.partition_point(|said| said.at.occurred_at < span.1);
    &all[from..to.max(from)]
}

impl LaneHistory {
    /// Its changes, in the order of their moments.
    pub(super) fn changes(&self) -> &[Written] {
        &self.changes
    }

    fn index(&self, at: Moment) -> usize {
        self.changes.partition_point(|written| written.at < at)
    }

    /// The spans in which traffic reached a release.
    fn live(&self, release: Id) -> Vec<Span> {
        let mut spans = Vec::new();
        for at in self.deploys.get(&release).into_iter().flatten() {
            let index = self.index(*at);
            let slot = &self.changes[index].slot;
            let stood = (at.occurred_at, self.until(index));
            match slot {
                None => spans.push(stood),
                Some(slot) => self.reached(index, slot, stood, &mut spans),
            }
        }
        spans
    }

    /// When the next change of the track of a change occurred.
    fn until(&self, index: usize) -> DateTime<Utc> {
        let slot = &self.changes[index].slot;
        let next = self.changes[index + 1..].iter().find(|later| later.slot == *slot);
        next.map_or(ALWAYS.1, |next| next.at.occurred_at)
    }

    /// The parts of a span in which traffic reached a slot: by the last switch before it, or one within it.
    fn reached(&self, index: usize, slot: &SlotName, stood: Span, spans: &mut Vec<Span>) {
        let is_switch = |change: &Written| change.slot.is_none();
        let before = self.changes[..index].iter().rposition(is_switch);
        let within = self.changes[index..].iter().take_while(|change| change.at.occurred_at < stood.1);
        let within = within.zip(index..).filter(|(change, _)| is_switch(change)).map(|(_, index)| index);
        for switch in before.into_iter().chain(within) {
            let change = &self.changes[switch];
            if change.wrote == Wrote::SwitchedTo(slot.clone()) {
                let span = (stood.0.max(change.at.occurred_at), stood.1.min(self.until(switch)));
                spans.extend((span.0 < span.1).then_some(span));
            }
        }
    }

    /// What checks of a time said of a release that the lane ran.
    pub(super) fn verdicts(
        &self,
        release: Id,
        environment: &Environment,
        shared: &Shared,
        time: Span,
    ) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let mut add = |said: &Said| {
            if time.0 <= said.at.occurred_at && said.at.occurred_at < time.1 {
                let Moment { occurred_at, position } = said.at;
                let verdict = Verdict { passed: said.passed, occurred_at, position };
                verdicts.add(shared.lines.get(said.check).clone(), verdict);
            }
        };
        let ran = shared.releases.get(release);
        for told in shared.releases.of_version(&ran.version) {
            if let Some(said) = self.of_releases.get(told)
                && ran.is_meant_by(shared.releases.get(*told))
            {
                said.iter().for_each(&mut add);
            }
        }
        let artifact = ran.artifact.as_ref().and_then(|artifact| shared.of_artifacts.get(artifact));
        artifact.into_iter().flatten().for_each(&mut add);
        if !self.of_deployments.is_empty() {
            let deploys = self.deploys.get(&release).into_iter().flatten();
            let deployments = deploys.filter_map(|at| self.changes[self.index(*at)].deployment);
            let said = deployments.filter_map(|deployment| self.of_deployments.get(&deployment));
            said.flatten().for_each(&mut add);
        }
        if !self.unnamed.is_empty() || !environment.said.is_empty() {
            for span in self.live(release) {
                during(&self.unnamed, span).iter().for_each(&mut add);
                during(&environment.said, span).iter().for_each(&mut add);
            }
        }
        verdicts
    }
}

impl Environment {
    fn lane(&mut self, service: &ServiceName, target: &TargetName) -> &mut LaneHistory {
        if !self.lanes.get(service).is_some_and(|lanes| lanes.contains_key(target)) {
            self.lanes.entry(service.clone()).or_default().insert(target.clone(), LaneHistory::default());
        }
        self.lanes.entry(service.clone()).or_default().entry(target.clone()).or_default()
    }

    /// The last word on a point that stood from one position up to before another.
    fn marked(&self, from: Position, before: Option<Position>) -> Option<&Marked> {
        let before = before.unwrap_or(Position::new(u64::MAX));
        let on = (from < before).then(|| self.marks.range(from..before));
        on.into_iter().flatten().map(|(_, marked)| marked).max_by_key(|marked| marked.position)
    }

    /// How a release fared here in the lanes of its service, as far as is known and up to a time: what the
    /// gate would have said then.
    pub(super) fn proving(
        &self,
        name: &EnvironmentName,
        service: &ServiceName,
        asked: &Release,
        shared: &Shared,
        now: DateTime<Utc>,
    ) -> Proving {
        let mut proving = Proving { environment: name.clone(), status: None, position: None };
        let mut deploys = Vec::new();
        for (target, lane) in self.lanes.get(service).into_iter().flatten() {
            for release in shared.releases.of_version(&asked.version) {
                let moments = lane.deploys.get(release).into_iter().flatten();
                let indexes = moments.map(|at| lane.index(*at)).filter(|index| !lane.changes[*index].late);
                deploys.extend(indexes.map(|index| (lane.changes[index].at, target, lane, index, *release)));
            }
        }
        deploys.sort_by_key(|(at, ..)| std::cmp::Reverse(at.position));
        deploys.truncate(LAST_DEPLOYS);
        for (since, target, lane, index, release) in deploys {
            let artifacts = (&shared.releases.get(release).artifact, &asked.artifact);
            if matches!(artifacts, (Some(ran), Some(asked)) if ran != asked) {
                continue;
            }
            let slot = &lane.changes[index].slot;
            let mut later = lane.changes[index + 1..].iter();
            let until = later.find(|later| later.slot == *slot && !later.late).map(|later| later.at);
            // What only stood in a slot was not tried.
            let runs = lane.live(release).into_iter().map(|(since, until)| until.min(now) - since);
            let Some(stood) = runs.max() else { continue };
            let verdicts = lane.verdicts(release, self, shared, ALWAYS);
            let composition = Verdicts::default();
            let evidence = Evidence {
                composition: &composition,
                lanes: vec![CheckedLane { service, target, changed: true, verdicts: &verdicts }],
                stood,
                stands: until.is_none(),
                marked: self.marked(since.position, until.map(|until| until.position)),
            };
            let status = judge(&self.policy, &evidence).status;
            if proving.status.is_none() || status == Status::KnownGood {
                proving.status = Some(status);
                proving.position = Some(since.position);
            }
            if status == Status::KnownGood {
                break;
            }
        }
        proving
    }
}
