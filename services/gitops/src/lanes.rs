//! The releases of lanes after a commit, as the files state them.
//!
//! Invariants: only a readable file changes a lane. While a file cannot be read, no lane that it could be
//! about is removed. Where files contradict each other, the lane keeps what it ran.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use ledger_domain::{EnvironmentName, ServiceName, TargetName};

use crate::pin::Pin;
use crate::rule::PathLane;

/// A lane, with its target if the repository states one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The environment.
    pub environment: EnvironmentName,
    /// The target, if the repository states one.
    pub target: Option<TargetName>,
    /// The service.
    pub service: ServiceName,
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.as_ref().map_or("default", TargetName::as_str);
        write!(f, "{}/{target}/{}", self.environment, self.service)
    }
}

impl LaneKey {
    /// Returns true if a file with this part of a lane in its path can be about the lane.
    fn is_within(&self, part: &PathLane) -> bool {
        self.environment == part.environment
            && self.target == part.target
            && part.service.as_ref().is_none_or(|service| *service == self.service)
    }
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileState {
    /// The lanes of the file, each with its release, or `None` where it is not known.
    Read(BTreeMap<LaneKey, Option<Pin>>),
    /// It cannot be read, and may be about any lane with these parts.
    Unreadable(PathLane),
}

/// The release of a lane, and the file that states it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Running {
    pub pin: Pin,
    pub path: String,
    pub field: String,
}

/// A change of a lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaneChange {
    pub lane: LaneKey,
    pub before: Option<Running>,
    /// The release from now on; `None` if nothing runs any more.
    pub after: Option<Running>,
}

/// The result of applying the files of a commit.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub changes: Vec<LaneChange>,
    /// Lanes about which files contradict each other from this commit on, with one of the files.
    pub contradictions: Vec<(LaneKey, String)>,
}

/// The files and lanes after a commit.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    files: HashMap<String, (FileState, String)>,
    by_lane: BTreeMap<LaneKey, BTreeSet<String>>,
    unreadable: BTreeSet<String>,
    running: BTreeMap<LaneKey, Running>,
    contradicted: BTreeSet<LaneKey>,
}

impl Lanes {
    /// Applies the changed files of a commit: each with its state and the field that was read, or `None` if it is gone
    /// or not about any lane.
    pub(crate) fn apply(&mut self, files: Vec<(String, Option<(FileState, String)>)>) -> Applied {
        let mut affected = BTreeSet::new();
        for (path, state) in files {
            self.forget(&path, &mut affected);
            if let Some((state, field)) = state {
                self.remember(path, state, field, &mut affected);
            }
        }
        let mut applied = Applied::default();
        for lane in affected {
            let judgement = self.judge(&lane);
            if let Judgement::Contradiction(path) = judgement {
                if self.contradicted.insert(lane.clone()) {
                    applied.contradictions.push((lane, path));
                }
                continue;
            }
            self.contradicted.remove(&lane);
            match judgement {
                Judgement::Runs(after) => self.change(lane, Some(after), &mut applied),
                Judgement::Nothing => self.change(lane, None, &mut applied),
                Judgement::Unknown | Judgement::Contradiction(_) => {}
            }
        }
        applied
    }

    fn forget(&mut self, path: &str, affected: &mut BTreeSet<LaneKey>) {
        match self.files.remove(path) {
            Some((FileState::Read(lanes), _)) => {
                for lane in lanes.into_keys() {
                    if let Some(paths) = self.by_lane.get_mut(&lane) {
                        paths.remove(path);
                        if paths.is_empty() {
                            self.by_lane.remove(&lane);
                        }
                    }
                    affected.insert(lane);
                }
            }
            Some((FileState::Unreadable(part), _)) => {
                self.unreadable.remove(path);
                affected.extend(self.running.keys().filter(|lane| lane.is_within(&part)).cloned());
            }
            None => {}
        }
    }

    fn remember(&mut self, path: String, state: FileState, field: String, affected: &mut BTreeSet<LaneKey>) {
        match &state {
            FileState::Read(lanes) => {
                for lane in lanes.keys() {
                    self.by_lane.entry(lane.clone()).or_default().insert(path.clone());
                    affected.insert(lane.clone());
                }
            }
            FileState::Unreadable(_) => {
                self.unreadable.insert(path.clone());
            }
        }
        self.files.insert(path, (state, field));
    }

    fn judge(&self, lane: &LaneKey) -> Judgement {
        let mut found: Option<Running> = None;
        let mut is_unknown = false;
        for path in self.by_lane.get(lane).into_iter().flatten() {
            let Some((FileState::Read(lanes), field)) = self.files.get(path) else { continue };
            match (lanes.get(lane), &found) {
                (Some(Some(pin)), None) => {
                    found = Some(Running { pin: pin.clone(), path: path.clone(), field: field.clone() });
                }
                (Some(Some(pin)), Some(other)) if *pin != other.pin => {
                    return Judgement::Contradiction(path.clone());
                }
                (Some(Some(_)), Some(_)) => {}
                (Some(None) | None, _) => is_unknown = true,
            }
        }
        let may_be_elsewhere = || {
            let mut states = self.unreadable.iter().filter_map(|path| self.files.get(path));
            states.any(|(state, _)| matches!(state, FileState::Unreadable(part) if lane.is_within(part)))
        };
        match found {
            Some(running) => Judgement::Runs(running),
            None if is_unknown || may_be_elsewhere() => Judgement::Unknown,
            None => Judgement::Nothing,
        }
    }

    fn change(&mut self, lane: LaneKey, after: Option<Running>, applied: &mut Applied) {
        let before = match &after {
            Some(running) => self.running.insert(lane.clone(), running.clone()),
            None => self.running.remove(&lane),
        };
        let pin = |running: &Option<Running>| running.as_ref().map(|running| running.pin.clone());
        if pin(&before) != pin(&after) {
            applied.changes.push(LaneChange { lane, before, after });
        }
    }
}

/// The release of a lane by all its files.
enum Judgement {
    Runs(Running),
    Nothing,
    Unknown,
    Contradiction(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::{ValueForm, pin};

    fn lane(name: &str) -> LaneKey {
        let (environment, service) = name.split_once('/').expect("a lane");
        LaneKey {
            environment: environment.parse().expect("a name"),
            target: None,
            service: service.parse().expect("a name"),
        }
    }

    fn read(lanes: &[(&str, Option<&str>)]) -> Option<(FileState, String)> {
        let pins = lanes.iter().map(|(name, version)| {
            (lane(name), version.map(|version| pin(version, ValueForm::Version).expect("a version")))
        });
        Some((FileState::Read(pins.collect()), "tag".to_owned()))
    }

    fn unreadable(environment: &str, service: Option<&str>) -> Option<(FileState, String)> {
        let part = PathLane {
            environment: environment.parse().expect("a name"),
            service: service.map(|service| service.parse().expect("a name")),
            target: None,
        };
        Some((FileState::Unreadable(part), "tag".to_owned()))
    }

    /// Applies files and returns the changes as `lane before>after`.
    fn changes(lanes: &mut Lanes, files: Vec<(&str, Option<(FileState, String)>)>) -> Vec<String> {
        let files = files.into_iter().map(|(path, state)| (path.to_owned(), state)).collect();
        let version = |running: &Option<Running>| match running {
            Some(running) => running.pin.version.to_string(),
            None => "-".to_owned(),
        };
        let applied = lanes.apply(files);
        let contradictions = applied.contradictions.iter().map(|(lane, path)| format!("{lane} in {path}"));
        let changes = applied.changes.iter();
        changes
            .map(|change| format!("{} {}>{}", change.lane, version(&change.before), version(&change.after)))
            .chain(contradictions)
            .collect()
    }

    #[test]
    fn a_file_that_comes_changes_and_goes_changes_its_lane() {
        let mut lanes = Lanes::default();
        assert_eq!(changes(&mut lanes, vec![("a", read(&[("p/web", Some("v1"))]))]), ["p/default/web ->v1"]);
        assert_eq!(changes(&mut lanes, vec![("a", read(&[("p/web", Some("v2"))]))]), ["p/default/web v1>v2"]);
        assert_eq!(changes(&mut lanes, vec![("a", read(&[("p/web", Some("v2"))]))]), Vec::<String>::new());
        assert_eq!(changes(&mut lanes, vec![("a", read(&[]))]), ["p/default/web v2>-"]);
        assert_eq!(changes(&mut lanes, vec![("a", None)]), Vec::<String>::new());
    }

    #[test]
    fn a_rename_changes_nothing_unless_the_lane_is_another() {
        let mut lanes = Lanes::default();
        changes(&mut lanes, vec![("a", read(&[("p/web", Some("v1"))]))]);
        assert!(changes(&mut lanes, vec![("b", read(&[("p/web", Some("v1"))])), ("a", None)]).is_empty());
        assert_eq!(
            changes(&mut lanes, vec![("b", None), ("c", read(&[("p/api", Some("v1"))]))]),
            ["p/default/api ->v1", "p/default/web v1>-"]
        );
    }

    #[test]
    fn an_unreadable_file_removes_nothing_even_under_a_new_name() {
        let mut lanes = Lanes::default();
        changes(&mut lanes, vec![("a", read(&[("p/web", Some("v1")), ("p/api", Some("v1"))]))]);
        assert!(changes(&mut lanes, vec![("a", unreadable("p", None))]).is_empty());
        assert!(changes(&mut lanes, vec![("a", None), ("b", unreadable("p", None))]).is_empty());
        assert_eq!(changes(&mut lanes, vec![("b", read(&[("p/web", Some("v1"))]))]), ["p/default/api v1>-"]);
        assert!(changes(&mut lanes, vec![("b", unreadable("p", Some("web")))]).is_empty());
        assert_eq!(changes(&mut lanes, vec![("b", None)]), ["p/default/web v1>-"]);
    }

    #[test]
    fn an_unknown_release_keeps_the_one_before() {
        let mut lanes = Lanes::default();
        changes(&mut lanes, vec![("a", read(&[("p/web", Some("v1"))]))]);
        assert!(changes(&mut lanes, vec![("a", read(&[("p/web", None)]))]).is_empty());
        assert_eq!(changes(&mut lanes, vec![("a", read(&[("p/web", Some("v2"))]))]), ["p/default/web v1>v2"]);
    }

    #[test]
    fn files_that_contradict_each_other_change_nothing() {
        let mut lanes = Lanes::default();
        changes(&mut lanes, vec![("a", read(&[("p/web", Some("v1"))]))]);
        assert_eq!(changes(&mut lanes, vec![("b", read(&[("p/web", Some("v2"))]))]), ["p/default/web in b"]);
        assert!(changes(&mut lanes, vec![("b", read(&[("p/web", Some("v2"))]))]).is_empty());
        assert_eq!(changes(&mut lanes, vec![("a", None)]), ["p/default/web v1>v2"]);
        assert!(changes(&mut lanes, vec![("c", read(&[("p/web", Some("v2"))]))]).is_empty());
    }
}
