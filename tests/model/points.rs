//! Release points and their status: section 4 of decision 0015.

use serde_json::Value;

use crate::checks::at_end_of;
use crate::entry::{Entry, MAX_MOMENT, Moment};
use crate::lanes::{Model, State};

/// A composition, the time for which it stood, and the change that it began with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    /// Position of the change that it began with.
    pub(crate) position: u64,
    /// Moment of the change that it began with.
    pub(crate) began: Moment,
    /// Time of the next change; `None` if there is none.
    pub(crate) until: Option<i64>,
    pub(crate) state: State,
    /// Lanes that changed at its begin.
    changed: Vec<(String, String)>,
}

/// Returns the lanes in which two states differ.
fn differing(before: &State, after: &State) -> Vec<(String, String)> {
    let mut lanes: Vec<(String, String)> = before
        .lanes
        .iter()
        .chain(&after.lanes)
        .map(|lane| (lane.service.clone(), lane.target.clone()))
        .collect();
    lanes.sort();
    lanes.dedup();
    // Compares spellings: another spelling of an artifact is a change.
    let key = |state: &State, lane: &(String, String)| {
        state.live(&lane.0, &lane.1).map(|live| format!("{:?}", live.release))
    };
    lanes.retain(|lane| key(before, lane) != key(after, lane));
    lanes
}

impl Model {
    /// Returns the environment's policy as known at K; null if none was declared.
    pub(crate) fn policy(&self, environment: &str, k: u64) -> Value {
        let declared = self.known_in(environment, "environment.declared", k);
        declared.last().map_or(Value::Null, |entry| entry.data["policy"].clone())
    }

    /// Returns the checks that a policy requires.
    fn required(policy: &Value) -> Vec<String> {
        let checks = policy["required_validations"].as_array();
        checks.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Returns the points after each recorded change of the composition, oldest first.
    pub(crate) fn points(&self, environment: &str, k: u64) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        let mut before = State::default();
        for entry in self.entries.iter().filter(|entry| entry.position <= k) {
            let state = self.state_at(environment, entry.position);
            if state.text() != before.text() {
                if let Some(last) = points.last_mut() {
                    last.until = Some(entry.occurred_at);
                }
                points.push(Point {
                    position: entry.position,
                    began: entry.moment(),
                    until: None,
                    changed: differing(&before, &state),
                    state: state.clone(),
                });
            }
            before = state;
        }
        points
    }

    /// Returns the point at a time, as known at K; it lasts from the change before that time to the one after it.
    pub(crate) fn point_at_time(&self, environment: &str, time: i64, k: u64) -> Option<Point> {
        let mut moments: Vec<Moment> = self.known(k).iter().map(|entry| entry.moment()).collect();
        moments.sort_unstable();
        let mut point: Option<Point> = None;
        let mut before = State::default();
        for moment in moments {
            let state = self.state(environment, moment, k);
            if state.text() != before.text() {
                if moment > (time, u64::MAX) {
                    if let Some(point) = &mut point {
                        point.until = Some(moment.0);
                    }
                    break;
                }
                point = Some(Point {
                    position: moment.1,
                    began: moment,
                    until: None,
                    changed: differing(&before, &state),
                    state: state.clone(),
                });
            }
            before = state;
        }
        point
    }

    /// Returns the latest mark on the matching compositions that is not revoked.
    pub(crate) fn mark(&self, environment: &str, matches: impl Fn(&State) -> bool, k: u64) -> Option<&Entry> {
        let marked = |entry: &Entry| {
            let position = entry.data["position"].as_u64().unwrap_or_default();
            matches(&self.state_at(environment, position))
        };
        let revoked = self.known_in(environment, "release_point.revoked", k);
        let revoked = revoked.into_iter().rfind(|entry| marked(entry)).map_or(0, |entry| entry.position);
        let mut marks = self.known_in(environment, "release_point.marked", k);
        marks.retain(|entry| entry.position > revoked && marked(entry));
        marks.pop()
    }

    /// Returns the status of a point at the time `now`, as known at K.
    pub(crate) fn status(&self, environment: &str, point: &Point, now: i64, k: u64) -> &'static str {
        let identity = point.state.identity();
        let policy = self.policy(environment, k);
        let required = Self::required(&policy);
        let lanes: Vec<[&str; 2]> =
            point.state.lanes.iter().map(|lane| [&*lane.service, &*lane.target]).collect();
        let of_lane = |lane: &[&str; 2], check: &str| {
            let live = point.state.live(lane[0], lane[1])?;
            self.result([environment, lane[0], lane[1]], &live.release, check, k)
        };
        let of_composition = |check: &str| self.composition_result(environment, &identity, check, k);
        let mut failures: Vec<(String, Moment)> = Vec::new();
        for check in self.check_names(k) {
            let of_lanes = lanes.iter().filter_map(|lane| of_lane(lane, &check));
            for result in of_lanes.chain(of_composition(&check)) {
                if result.is("validation.failed") {
                    failures.push((check.clone(), result.moment()));
                }
            }
        }
        if let Some(mark) = self.mark(environment, |state| state.identity() == identity, k) {
            if mark.text("status") == "bad" {
                return "bad";
            }
            failures.retain(|(_, moment)| *moment > mark.moment());
            return match failures.iter().any(|(check, _)| required.contains(check)) {
                true => "bad",
                false if failures.is_empty() => "known_good",
                false => "candidate",
            };
        }
        if lanes.is_empty() {
            return "empty";
        }
        if failures.iter().any(|(check, _)| required.contains(check)) {
            return "bad";
        }
        let passed = |result: Option<&Entry>| result.is_some_and(|result| result.is("validation.passed"));
        let checked = if required.is_empty() {
            let is_removal = point.changed.iter().all(|lane| point.state.live(&lane.0, &lane.1).is_none());
            let began_with =
                |lane: &[&str; 2]| point.changed.iter().any(|other| [&*other.0, &*other.1] == *lane);
            self.check_names(k).iter().any(|check| {
                passed(of_composition(check))
                    || lanes
                        .iter()
                        .any(|lane| (is_removal || began_with(lane)) && passed(of_lane(lane, check)))
            })
        } else {
            required.iter().all(|check| {
                passed(of_composition(check)) || lanes.iter().all(|lane| passed(of_lane(lane, check)))
            })
        };
        let soak = policy["soak_seconds"].as_i64().unwrap_or(0);
        let stood = (point.until.unwrap_or(now) - point.began.0).max(0) / 1_000_000;
        match failures.is_empty() && checked && stood >= soak {
            true => "known_good",
            false => "candidate",
        }
    }

    /// Returns the position of the newest recorded point that is known good.
    pub(crate) fn last_known_good(&self, environment: &str, now: i64, k: u64) -> Option<u64> {
        let points = self.points(environment, k);
        let good = |point: &&Point| self.status(environment, point, now, k) == "known_good";
        points.iter().rfind(good).map(|point| point.position)
    }

    /// Returns the identities of the matching compositions that have a mark or a check, each with the mark in force.
    fn compositions_with_evidence(
        &self,
        environment: &str,
        matches: impl Fn(&State) -> bool,
        k: u64,
    ) -> Vec<(Vec<Vec<String>>, Option<&Entry>)> {
        let mut states: Vec<State> = Vec::new();
        for entry in self.known_in(environment, "release_point.marked", k) {
            states.push(self.state_at(environment, entry.data["position"].as_u64().unwrap_or_default()));
        }
        for check in self.check_names(k) {
            for end in self.composition_ends(environment, &check, k) {
                states.push(self.state(environment, at_end_of(end), k));
            }
        }
        let mut compositions: Vec<(Vec<Vec<String>>, Option<&Entry>)> = Vec::new();
        for state in states.iter().filter(|state| matches(state)) {
            let identity = state.identity();
            if compositions.iter().all(|(other, _)| *other != identity) {
                let mark = self.mark(environment, |other| other.identity() == identity, k);
                compositions.push((identity, mark));
            }
        }
        compositions
    }

    /// Returns true if a release is known good in a lane, by the policy of its environment.
    pub(crate) fn is_known_good_release(
        &self,
        lane: [&str; 3],
        release: &crate::entry::Release,
        now: i64,
        k: u64,
    ) -> bool {
        let [environment, service, target] = lane;
        let policy = self.policy(environment, k);
        let required = Self::required(&policy);
        let contains =
            |state: &State| state.live(service, target).is_some_and(|live| live.release.is_same(release));
        let results: Vec<&Entry> =
            self.check_names(k).iter().filter_map(|check| self.result(lane, release, check, k)).collect();
        let mut failures: Vec<Moment> = Vec::new();
        for result in &results {
            if result.is("validation.failed") {
                failures.push(result.moment());
            }
        }
        let compositions = self.compositions_with_evidence(environment, contains, k);
        let ends = |identity: &Vec<Vec<String>>, kind: &str| -> Vec<&Entry> {
            let names = self.check_names(k);
            let results =
                names.iter().filter_map(|check| self.composition_result(environment, identity, check, k));
            results.filter(|result| result.is(kind)).collect()
        };
        let mut not_bad: Vec<&Vec<Vec<String>>> = Vec::new();
        let (mut has_good_mark, mut has_bad_mark) = (false, false);
        for (identity, mark) in &compositions {
            match mark {
                Some(mark) if mark.text("status") == "bad" => {
                    has_bad_mark = true;
                    continue;
                }
                Some(mark)
                    if ends(identity, "validation.failed").iter().all(|end| end.moment() < mark.moment()) =>
                {
                    has_good_mark = true;
                    failures.retain(|moment| *moment > mark.moment());
                }
                _ => {}
            }
            not_bad.push(identity);
        }
        if has_good_mark {
            return failures.is_empty();
        }
        let is_good = |identity: &&Vec<Vec<String>>| {
            !ends(identity, "validation.passed").is_empty() && ends(identity, "validation.failed").is_empty()
        };
        if has_bad_mark && !not_bad.iter().any(is_good) {
            return false;
        }
        let passed = |check: &str| {
            results.iter().any(|result| result.is("validation.passed") && result.text("check") == check)
        };
        let in_composition = |check: &str| {
            not_bad.iter().any(|identity| {
                ends(identity, "validation.passed").iter().any(|end| end.text("check") == check)
            })
        };
        let checked = if required.is_empty() {
            results.iter().any(|result| result.is("validation.passed"))
                || self.check_names(k).iter().any(|check| in_composition(check))
        } else {
            required.iter().all(|check| passed(check) || in_composition(check))
        };
        let soak = policy["soak_seconds"].as_i64().unwrap_or(0);
        failures.is_empty() && checked && self.longest_time_live(lane, release, now, k) / 1_000_000 >= soak
    }

    /// Returns the longest time for which traffic reached a release without a break, in microseconds.
    fn longest_time_live(&self, lane: [&str; 3], release: &crate::entry::Release, now: i64, k: u64) -> i64 {
        let mut moments: Vec<Moment> = self.known(k).iter().map(|entry| entry.moment()).collect();
        moments.sort_unstable();
        let mut longest = 0;
        let mut since: Option<i64> = None;
        for moment in moments {
            let runs = self.live_release(lane, moment, k).is_some_and(|reached| reached.is_same(release));
            match since {
                Some(began) if !runs => {
                    longest = longest.max(moment.0 - began);
                    since = None;
                }
                None if runs => since = Some(moment.0),
                _ => {}
            }
        }
        since.map_or(longest, |began| longest.max(now - began))
    }

    /// Returns the releases that traffic ever reached in a lane, as known at K. One that was live for no time, between
    /// two changes of one time, does not count.
    pub(crate) fn ever_live(&self, lane: [&str; 3], k: u64) -> Vec<crate::entry::Release> {
        let mut releases: Vec<crate::entry::Release> = Vec::new();
        for entry in self.known(k) {
            let reached = self.live_release(lane, at_end_of(entry), k);
            releases.extend(reached.filter(|reached| !releases.iter().any(|other| other.is_same(reached))));
        }
        releases
    }

    /// Returns the last recorded point at or before a position.
    pub(crate) fn point_at(&self, environment: &str, position: u64, k: u64) -> Option<Point> {
        self.points(environment, k).into_iter().rfind(|point| point.position <= position)
    }

    /// Returns the present state of an environment, as known at K.
    pub(crate) fn present(&self, environment: &str, k: u64) -> State {
        self.state(environment, MAX_MOMENT, k)
    }
}
