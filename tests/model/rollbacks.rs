//! Rollbacks, their plans and their holds: sections 5 and 6 of decision 0015.

use serde_json::Value;

use crate::entry::{Entry, MAX_MOMENT, MIN_MOMENT, Moment, Release, contradicts, matches, person};
use crate::lanes::{Model, ReportTarget};

/// A plan's step for one lane.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) service: String,
    pub(crate) target: String,
    pub(crate) action: &'static str,
    /// For a switch: the slots that contain the release, each of which is valid.
    pub(crate) slots: Vec<String>,
    pub(crate) from: Option<Release>,
    pub(crate) to: Option<Release>,
}

/// A requested rollback.
#[derive(Debug, Clone)]
pub(crate) struct Rollback {
    pub(crate) id: String,
    /// Moment of the request.
    requested: Moment,
    /// True if a person requested it.
    by_person: bool,
    is_started: bool,
    is_cancelled: bool,
    /// True from the request to the end.
    pub(crate) is_active: bool,
    /// Position of the end.
    ended: Option<u64>,
    /// Service, target, replaced release, restored release.
    steps: Vec<(String, String, Option<Release>, Option<Release>)>,
}

fn release(value: &Value) -> Option<Release> {
    value.is_object().then(|| Release::of(value))
}

impl Model {
    /// Returns the steps from an environment's present state to its state at a position.
    pub(crate) fn plan(&self, environment: &str, position: u64, k: u64) -> Vec<Step> {
        let present = self.present(environment, k);
        let wanted = self.state_at(environment, position);
        let mut lanes: Vec<(String, String)> = present
            .lanes
            .iter()
            .chain(&wanted.lanes)
            .map(|lane| (lane.service.clone(), lane.target.clone()))
            .collect();
        lanes.sort();
        lanes.dedup();
        let mut steps = Vec::new();
        for (service, target) in lanes {
            let from = present.live(&service, &target).map(|live| live.release.clone());
            let to = wanted.live(&service, &target).map(|live| live.release.clone());
            let mut slots = Vec::new();
            let action = match (&from, &to) {
                (Some(from), Some(to)) if matches(to, from) => continue,
                (None, None) => continue,
                (_, None) => "remove",
                (_, Some(to)) => {
                    let candidates = present.idle.iter().filter(|idle| {
                        idle.service == service && idle.target == target && matches(to, &idle.live.release)
                    });
                    slots.extend(candidates.filter_map(|idle| idle.live.slot.clone()));
                    if !slots.is_empty() {
                        "switch"
                    } else if from.is_some() {
                        "redeploy"
                    } else {
                        "add"
                    }
                }
            };
            steps.push(Step { service, target, action, slots, from, to });
        }
        steps
    }

    /// Returns the issues of a plan: `target_empty`, `artifact_revoked`, `barrier`.
    pub(crate) fn issues(
        &self,
        environment: &str,
        position: u64,
        steps: &[Step],
        k: u64,
    ) -> Vec<&'static str> {
        let mut issues = Vec::new();
        if self.state_at(environment, position).lanes.is_empty() {
            issues.push("target_empty");
        }
        let is_revoked = |step: &Step| {
            let completed = step
                .to
                .as_ref()
                .map(|to| self.with_artifact([environment, &step.service], to, MAX_MOMENT, k));
            completed.and_then(|to| to.artifact).is_some_and(|artifact| self.is_revoked(&artifact, k))
        };
        if steps.iter().any(is_revoked) {
            issues.push("artifact_revoked");
        }
        let began = self.point_at(environment, position, k).map_or(MIN_MOMENT, |point| point.began);
        let is_barrier = |entry: &&Entry| {
            ["deploy.succeeded", "deploy.failed"].contains(&&*entry.kind)
                && entry.text("environment") == environment
                && entry.data["reversible"] == false
                && entry.moment() > began
                && steps.iter().any(|step| {
                    step.service == entry.text("service")
                        && *self.target_of(entry) == ReportTarget::Resolved(step.target.clone())
                })
        };
        if self.known(k).iter().any(is_barrier) {
            issues.push("barrier");
        }
        issues
    }

    /// Returns the rollbacks of an environment that are known at K, oldest request first.
    pub(crate) fn rollbacks(&self, environment: &str, k: u64) -> Vec<Rollback> {
        let requests = self.known_in(environment, "rollback.requested", k);
        let rollback = |request: &&Entry| {
            let id = request.text("rollback_id");
            let has = |kind: &str| {
                self.known_in(environment, kind, k).iter().any(|entry| entry.text("rollback_id") == id)
            };
            let position = |kind: &str| {
                let events = self.known_in(environment, kind, k);
                events.iter().find(|entry| entry.text("rollback_id") == id).map(|entry| entry.position)
            };
            let started = self.known_in(environment, "rollback.started", k);
            let started = started.into_iter().find(|entry| entry.text("rollback_id") == id);
            let steps = request.data["plan"]["steps"].as_array().into_iter().flatten();
            let steps = steps.map(|step| {
                let text = |name: &str, otherwise: &str| step[name].as_str().unwrap_or(otherwise).to_owned();
                let (mut from, to) = (release(&step["from"]), release(&step["to"]));
                let (service, target) = (text("service", ""), text("target", "default"));
                let is_it = |lane: &Value| {
                    lane["service"] == *service && lane["target"].as_str().unwrap_or("default") == target
                };
                // For an acknowledged lane, the replaced release is the one before the start, not the plan's.
                if let Some(started) = started
                    && started.data["acknowledge"].as_array().into_iter().flatten().any(is_it)
                {
                    let state = self.state_at(environment, started.position - 1);
                    from = state.live(&service, &target).map(|live| live.release.clone());
                }
                (service, target, from, to)
            });
            let ended = ["rollback.succeeded", "rollback.failed", "rollback.cancelled"];
            let ended = ended.into_iter().filter_map(position).min();
            Rollback {
                id: id.to_owned(),
                requested: request.moment(),
                by_person: person(&request.data["initiated_by"]).is_some(),
                is_started: has("rollback.started"),
                is_cancelled: has("rollback.cancelled"),
                is_active: ended.is_none(),
                ended,
                steps: steps.collect(),
            }
        };
        requests.iter().map(rollback).collect()
    }

    /// Returns true if a rollback holds a release in a lane. The release must be completed with its artifact.
    pub(crate) fn is_held(&self, lane: [&str; 3], release: &Release, now: i64, k: u64) -> bool {
        let rollbacks = self.rollbacks(lane[0], k);
        rollbacks.iter().any(|rollback| {
            rollback.is_started
                && !rollback.is_cancelled
                && rollback.steps.iter().any(|(service, target, replaced, restored)| {
                    let Some(replaced) = replaced else { return false };
                    [&**service, &**target] == lane[1..]
                        && agrees(release, replaced, restored.as_ref())
                        && !self.hold_has_ended(
                            lane,
                            release,
                            replaced,
                            restored.as_ref(),
                            rollback,
                            &rollbacks,
                            (now, k),
                        )
                })
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the rule depends on all of them")]
    fn hold_has_ended(
        &self,
        lane: [&str; 3],
        release: &Release,
        replaced: &Release,
        restored: Option<&Release>,
        rollback: &Rollback,
        rollbacks: &[Rollback],
        (now, k): (i64, u64),
    ) -> bool {
        let grants = self.grants_in_force(lane, release, now, k);
        let granted = grants.iter().any(|grant| grant.position > rollback.requested.1);
        let returned = rollbacks.iter().any(|later| {
            later.requested.1 > rollback.requested.1
                && later.by_person
                && later.is_started
                && !later.is_cancelled
                && later.steps.iter().any(|(service, target, _, to)| {
                    [&**service, &**target] == lane[1..] && {
                        let is_it = |to: &Release| matches(release, to) || matches(to, release);
                        to.as_ref().is_some_and(is_it)
                    }
                })
        });
        let superseded = self.changes(lane[0], lane[1], lane[2], k).iter().any(|deploy| {
            let deployed = deploy.release();
            deploy.is("deploy.succeeded")
                && rollback.ended.is_some_and(|ended| deploy.position > ended)
                && deploy.optional("rollback_id").is_none()
                && !self.is_late(deploy)
                && !agrees(&deployed, replaced, restored)
                && restored.is_none_or(|restored| contradicts(restored, &deployed))
        });
        granted || returned || superseded
    }
}

/// Returns true if a release agrees with the replaced one in every part in which that differs from the restored one.
fn agrees(release: &Release, replaced: &Release, restored: Option<&Release>) -> bool {
    let Some(restored) = restored else { return !contradicts(release, replaced) };
    let restored = restored.parts();
    let (release, replaced) = (release.parts(), replaced.parts());
    let differing = (0..replaced.len()).filter(|part| replaced[*part] != restored[*part]);
    if differing.clone().all(|part| release[part] == restored[part]) {
        return false;
    }
    let mut agreeing = differing
        .map(|part| replaced[part].is_none() || release[part].is_none() || release[part] == replaced[part]);
    // If nothing differs, nothing is held.
    agreeing.next().is_some_and(|first| first && agreeing.all(|agrees| agrees))
}
