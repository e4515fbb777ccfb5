//! What the gate finds: section 6 of decision 0015.

use serde_json::Value;

use crate::entry::{Entry, FOREVER, Release, artifact_name, matches, micros, person, same_artifact};
use crate::lanes::Model;

/// A question to the gate.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) environment: String,
    pub(crate) service: String,
    pub(crate) target: Option<String>,
    /// As in the request.
    pub(crate) release: Value,
    pub(crate) requester: Option<Value>,
    pub(crate) rollback_id: Option<String>,
}

/// The rules, in the order in which the gate lists them.
pub(crate) const RULES: [&str; 6] = ["freeze", "rollback", "revoked", "held", "promotion", "approvals"];

impl Model {
    /// The rules that refuse, and `retired` where the environment is.
    pub(crate) fn refusals(&self, question: &Question, now: i64, k: u64) -> Vec<&'static str> {
        let environment = &*question.environment;
        let service = &*question.service;
        let mut refusals = Vec::new();
        if self.is_retired(environment, FOREVER, k) {
            refusals.push("retired");
        }
        let policy = self.policy(environment, k);
        let release = self.filled([environment, service], &Release::of(&question.release), FOREVER, k);
        let mut targets: Vec<String> = question.target.clone().into_iter().collect();
        if targets.is_empty() {
            targets = self.targets_of(environment, service, k);
        }
        if targets.is_empty() {
            targets.push("default".to_owned());
        }
        for rule in RULES {
            let passes = targets.iter().all(|target| {
                let lane = [environment, service, &**target];
                match rule {
                    "freeze" => !self.is_frozen(environment, now, k),
                    "rollback" => !self
                        .rollbacks(environment, k)
                        .iter()
                        .any(|other| other.is_active && Some(&other.id) != question.rollback_id.as_ref()),
                    "revoked" => match release.artifact.as_deref() {
                        Some(artifact) => !self.is_revoked(artifact, k),
                        // It may be any of the service's name.
                        None => !self.known(k).iter().any(|entry| {
                            entry.is("artifact.revoked")
                                && artifact_name(entry.text("artifact")) == service
                                && self.is_revoked(entry.text("artifact"), k)
                        }),
                    },
                    "held" => !self.is_held(lane, &release, now, k),
                    "promotion" => self.is_promoted(&policy, service, &release, now, k),
                    _ => self.is_approved(&policy, lane, &release, question.requester.as_ref(), now, k),
                }
            });
            if !passes {
                refusals.push(rule);
            }
        }
        refusals
    }

    /// True if a freeze of the environment contains the time.
    pub(crate) fn is_frozen(&self, environment: &str, time: i64, k: u64) -> bool {
        self.known_in(environment, "freeze.started", k).iter().any(|started| {
            let lifted = self
                .known_in(environment, "freeze.lifted", k)
                .iter()
                .filter(|entry| entry.text("freeze_id") == started.text("freeze_id"))
                .filter(|entry| entry.moment() > started.moment())
                .map(|entry| entry.occurred_at)
                .min();
            let until = started.maybe("until").map(micros);
            started.occurred_at <= time
                && lifted.is_none_or(|lifted| time < lifted)
                && until.is_none_or(|until| time < until)
        })
    }

    fn is_promoted(&self, policy: &Value, service: &str, release: &Release, now: i64, k: u64) -> bool {
        let any = policy["promotion"]["targets"] == "any";
        let from = policy["promotion"]["from"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut from = from.map(|environment| {
            let mut good: Vec<bool> = Vec::new();
            for (other, target) in self.all_lanes(environment, k) {
                if other != service {
                    continue;
                }
                let lane = [environment, service, &*target];
                let mut ran = self.ever_reached(lane, k);
                ran.retain(|ran| {
                    is_same_build(release, &self.filled([environment, service], ran, FOREVER, k))
                });
                if !ran.is_empty() {
                    good.push(ran.iter().any(|ran| self.release_is_good(lane, ran, now, k)));
                }
            }
            if any { good.contains(&true) } else { !good.is_empty() && !good.contains(&false) }
        });
        from.all(|good| good)
    }

    /// True if a person's answer covers a release in a lane. The release has its artifact filled in.
    pub(crate) fn covers(&self, answer: &Entry, lane: [&str; 3], release: &Release, k: u64) -> bool {
        let named = self.filled([lane[0], lane[1]], &answer.release(), answer.moment(), k);
        answer.text("service") == lane[1]
            && answer.maybe("target").is_none_or(|target| target == lane[2])
            && matches(&named, release)
    }

    fn is_approved(
        &self,
        policy: &Value,
        lane: [&str; 3],
        release: &Release,
        requester: Option<&Value>,
        now: i64,
        k: u64,
    ) -> bool {
        let wanted = policy["approvals"].as_u64().unwrap_or(0);
        let mut answers = self.known_in(lane[0], "approval.granted", k);
        answers.extend(self.known_in(lane[0], "approval.rejected", k));
        answers.retain(|answer| answer.person().is_some() && self.covers(answer, lane, release, k));
        answers.sort_by_key(|answer| answer.position);
        let mut people: Vec<Option<String>> = answers.iter().map(|answer| answer.person()).collect();
        people.sort();
        people.dedup();
        let requester = requester.and_then(person);
        let latest = |name: &Option<String>| answers.iter().rfind(|answer| answer.person() == *name);
        let others: Vec<&&Entry> =
            people.iter().filter(|name| **name != requester).filter_map(latest).collect();
        if wanted > 0 && others.iter().any(|answer| answer.is("approval.rejected")) {
            return false;
        }
        let granted = others.iter().filter(|answer| self.is_in_force(answer, lane, now, k));
        wanted == 0 || requester.is_some() && granted.count() as u64 >= wanted
    }

    fn is_in_force(&self, answer: &Entry, lane: [&str; 3], now: i64, k: u64) -> bool {
        let expired = answer.maybe("expires_at").is_some_and(|time| micros(time) <= now);
        answer.is("approval.granted") && !expired && !self.is_used_up(answer, lane, k)
    }

    /// The latest answers of people that are grants in force for a release in a lane.
    pub(crate) fn grants_in_force(
        &self,
        lane: [&str; 3],
        release: &Release,
        now: i64,
        k: u64,
    ) -> Vec<&Entry> {
        let mut answers = self.known_in(lane[0], "approval.granted", k);
        answers.extend(self.known_in(lane[0], "approval.rejected", k));
        answers.retain(|answer| answer.person().is_some() && self.covers(answer, lane, release, k));
        answers.sort_by_key(|answer| answer.position);
        let is_last = |answer: &&Entry| {
            !answers.iter().any(|later| later.position > answer.position && later.person() == answer.person())
        };
        let latest: Vec<&Entry> = answers.iter().copied().filter(|answer| is_last(answer)).collect();
        latest.into_iter().filter(|answer| self.is_in_force(answer, lane, now, k)).collect()
    }

    /// True if a release that the grant covers was deployed after it, and stands in the lane no more.
    fn is_used_up(&self, grant: &Entry, lane: [&str; 3], k: u64) -> bool {
        let named = self.filled([lane[0], lane[1]], &grant.release(), grant.moment(), k);
        let covered = |release: &Release| !crate::entry::contradicts(&named, release);
        let deployed = self.changes(lane[0], lane[1], lane[2], k).into_iter().any(|deploy| {
            deploy.is("deploy.succeeded")
                && deploy.position > grant.position
                && deploy.occurred_at > grant.occurred_at
                && covered(&deploy.release())
        });
        let present = self.present(lane[0], k);
        let stands = present.lanes.iter().chain(&present.idle).any(|standing| {
            [&*standing.service, &*standing.target] == lane[1..] && covered(&standing.live.release)
        });
        deployed && !stands
    }
}

/// The same artifact; the same version where one of them states no artifact.
fn is_same_build(one: &Release, other: &Release) -> bool {
    match (&one.artifact, &other.artifact) {
        (Some(one), Some(other)) => same_artifact(one, other),
        _ => one.version == other.version,
    }
}
