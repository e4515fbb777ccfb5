//! Rollbacks, their plans and the holds that they leave: sections 5 and 6 of decision 0015.

use serde_json::Value;

use crate::entry::{Entry, FOREVER, Moment, NEVER, Release, contradicts, matches, person};
use crate::lanes::{Model, Placed};

/// One lane's part of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) service: String,
    pub(crate) target: String,
    pub(crate) action: &'static str,
    /// For a switch: the slots in which the release stands, any of which will do.
    pub(crate) slots: Vec<String>,
    pub(crate) from: Option<Release>,
    pub(crate) to: Option<Release>,
}

/// A rollback that was requested.
#[derive(Debug, Clone)]
pub(crate) struct Rollback {
    pub(crate) id: String,
    /// The request.
    requested: Moment,
    /// True if a person asked for it.
    by_person: bool,
    is_started: bool,
    is_cancelled: bool,
    /// True from its request to its end.
    pub(crate) is_active: bool,
    /// The position of its end.
    ended: Option<u64>,
    /// Service, target, the release it left, the release it restored.
    steps: Vec<(String, String, Option<Release>, Option<Release>)>,
}

fn release(value: &Value) -> Option<Release> {
    value.is_object().then(|| Release::of(value))
}

impl Model {
    /// The steps from what an environment runs now to what it ran at a position.
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
                    let holds = present.idle.iter().filter(|idle| {
                        idle.service == service && idle.target == target && matches(to, &idle.live.release)
                    });
                    slots.extend(holds.filter_map(|idle| idle.live.slot.clone()));
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

    /// What stands in the way of a plan: `target_empty`, `artifact_revoked`, `barrier`.
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
            let filled = step.to.as_ref().map(|to| self.filled([environment, &step.service], to, FOREVER, k));
            filled.and_then(|to| to.artifact).is_some_and(|artifact| self.is_revoked(&artifact, k))
        };
        if steps.iter().any(is_revoked) {
            issues.push("artifact_revoked");
        }
        let began = self.point_at(environment, position, k).map_or(NEVER, |point| point.began);
        let is_barrier = |entry: &&Entry| {
            ["deploy.succeeded", "deploy.failed"].contains(&&*entry.kind)
                && entry.text("environment") == environment
                && entry.data["reversible"] == false
                && entry.moment() > began
                && steps.iter().any(|step| {
                    step.service == entry.text("service")
                        && *self.placed(entry) == Placed::At(step.target.clone())
                })
        };
        if self.known(k).iter().any(is_barrier) {
            issues.push("barrier");
        }
        issues
    }

    /// The rollbacks of an environment that are known at K, the first requested first.
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
                // What somebody acknowledged to be something else than the plan says.
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

    /// True if a rollback holds a release in a lane. The release has its artifact filled in.
    pub(crate) fn is_held(&self, lane: [&str; 3], release: &Release, now: i64, k: u64) -> bool {
        let rollbacks = self.rollbacks(lane[0], k);
        rollbacks.iter().any(|rollback| {
            rollback.is_started
                && !rollback.is_cancelled
                && rollback.steps.iter().any(|(service, target, left, restored)| {
                    let Some(left) = left else { return false };
                    [&**service, &**target] == lane[1..]
                        && agrees(release, left, restored.as_ref())
                        && !self.hold_has_ended(
                            lane,
                            release,
                            left,
                            restored.as_ref(),
                            rollback,
                            &rollbacks,
                            (now, k),
                        )
                })
        })
    }

    #[expect(clippy::too_many_arguments, reason = "all of them decide")]
    fn hold_has_ended(
        &self,
        lane: [&str; 3],
        release: &Release,
        left: &Release,
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
        let replaced = self.changes(lane[0], lane[1], lane[2], k).iter().any(|deploy| {
            let deployed = deploy.release();
            deploy.is("deploy.succeeded")
                && rollback.ended.is_some_and(|ended| deploy.position > ended)
                && deploy.maybe("rollback_id").is_none()
                && !self.is_late(deploy)
                && !agrees(&deployed, left, restored)
                && restored.is_none_or(|restored| contradicts(restored, &deployed))
        });
        granted || returned || replaced
    }
}

/// True if a release agrees with the one that was left in every part in which that differs from the one restored.
fn agrees(release: &Release, left: &Release, restored: Option<&Release>) -> bool {
    let Some(restored) = restored else { return !contradicts(release, left) };
    let restored = restored.parts();
    let (release, left) = (release.parts(), left.parts());
    let differing = (0..left.len()).filter(|part| left[*part] != restored[*part]);
    if differing.clone().all(|part| release[part] == restored[part]) {
        return false;
    }
    let mut agreeing =
        differing.map(|part| left[part].is_none() || release[part].is_none() || release[part] == left[part]);
    // Where nothing differs, nothing is held.
    agreeing.next().is_some_and(|first| first && agreeing.all(|agrees| agrees))
}
