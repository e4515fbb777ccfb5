//! The gate: section 6 of decision 0015.

use serde_json::Value;

use crate::entry::{Entry, MAX_MOMENT, Release, artifact_name, matches, micros, person, same_artifact};
use crate::lanes::Model;

/// A request to the gate.
#[derive(Debug, Clone)]
pub(crate) struct GateRequest {
    pub(crate) environment: String,
    pub(crate) service: String,
    pub(crate) target: Option<String>,
    /// The release, as in the request's body.
    pub(crate) release: Value,
    pub(crate) requester: Option<Value>,
    pub(crate) rollback_id: Option<String>,
}

/// Rules, in the order of the gate's findings.
pub(crate) const RULES: [&str; 6] = ["freeze", "rollback", "revoked", "held", "promotion", "approvals"];

impl Model {
    /// Returns the rules that fail, and `retired` if the environment is retired.
    pub(crate) fn failed_rules(&self, request: &GateRequest, now: i64, k: u64) -> Vec<&'static str> {
        let environment = &*request.environment;
        let service = &*request.service;
        let mut failed_rules = Vec::new();
        if self.is_retired(environment, MAX_MOMENT, k) {
            failed_rules.push("retired");
        }
        let policy = self.policy(environment, k);
        let release =
            self.with_artifact([environment, service], &Release::of(&request.release), MAX_MOMENT, k);
        let mut targets: Vec<String> = request.target.clone().into_iter().collect();
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
                        .any(|other| other.is_active && Some(&other.id) != request.rollback_id.as_ref()),
                    "revoked" => match release.artifact.as_deref() {
                        Some(artifact) => !self.is_revoked(artifact, k),
                        // Without an artifact, a revoked artifact with the service's name is enough.
                        None => !self.known(k).iter().any(|entry| {
                            entry.is("artifact.revoked")
                                && artifact_name(entry.text("artifact")) == service
                                && self.is_revoked(entry.text("artifact"), k)
                        }),
                    },
                    "held" => !self.is_held(lane, &release, now, k),
                    "promotion" => self.is_promoted(&policy, service, &release, now, k),
                    _ => self.is_approved(&policy, lane, &release, request.requester.as_ref(), now, k),
                }
            });
            if !passes {
                failed_rules.push(rule);
            }
        }
        failed_rules
    }

    /// Returns true if a freeze of the environment contains the time.
    pub(crate) fn is_frozen(&self, environment: &str, time: i64, k: u64) -> bool {
        self.known_in(environment, "freeze.started", k).iter().any(|started| {
            let lifted = self
                .known_in(environment, "freeze.lifted", k)
                .iter()
                .filter(|entry| entry.text("freeze_id") == started.text("freeze_id"))
                .filter(|entry| entry.moment() > started.moment())
                .map(|entry| entry.occurred_at)
                .min();
            let until = started.optional("until").map(micros);
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
                let mut ran = self.ever_live(lane, k);
                ran.retain(|ran| {
                    let artifact = self.artifact_in(lane, ran, k);
                    is_same_build(release, &Release { artifact, ..ran.clone() })
                });
                if !ran.is_empty() {
                    good.push(ran.iter().any(|ran| self.is_known_good_release(lane, ran, now, k)));
                }
            }
            if any { good.contains(&true) } else { !good.is_empty() && !good.contains(&false) }
        });
        from.all(|good| good)
    }

    /// Returns true if a person's vote covers a release in a lane. The release must be completed with its artifact.
    pub(crate) fn covers(&self, vote: &Entry, lane: [&str; 3], release: &Release, k: u64) -> bool {
        let named = self.voted_release(vote, lane, k);
        vote.text("service") == lane[1]
            && vote.optional("target").is_none_or(|target| target == lane[2])
            && matches(&named, release)
    }

    /// Returns the release of a vote, with the artifact that its version meant when the vote was recorded; if it meant
    /// none then, with the one that it means at the vote's moment by what is known at K.
    fn voted_release(&self, vote: &Entry, lane: [&str; 3], k: u64) -> Release {
        let lane = [lane[0], lane[1]];
        let then = self.with_artifact(lane, &vote.release(), vote.moment(), vote.position);
        self.with_artifact(lane, &then, vote.moment(), k)
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
        let mut votes = self.known_in(lane[0], "approval.granted", k);
        votes.extend(self.known_in(lane[0], "approval.rejected", k));
        votes.retain(|vote| vote.person().is_some() && self.covers(vote, lane, release, k));
        votes.sort_by_key(|vote| vote.position);
        let mut people: Vec<Option<String>> = votes.iter().map(|vote| vote.person()).collect();
        people.sort();
        people.dedup();
        let requester = requester.and_then(person);
        let latest = |name: &Option<String>| votes.iter().rfind(|vote| vote.person() == *name);
        let others: Vec<&&Entry> =
            people.iter().filter(|name| **name != requester).filter_map(latest).collect();
        if wanted > 0 && others.iter().any(|vote| vote.is("approval.rejected")) {
            return false;
        }
        let granted = others.iter().filter(|vote| self.is_in_force(vote, lane, now, k));
        wanted == 0 || requester.is_some() && granted.count() as u64 >= wanted
    }

    fn is_in_force(&self, vote: &Entry, lane: [&str; 3], now: i64, k: u64) -> bool {
        let expired = vote.optional("expires_at").is_some_and(|time| micros(time) <= now);
        vote.is("approval.granted") && !expired && !self.is_used_up(vote, lane, k)
    }

    /// Returns the grants in force for a release in a lane, among the latest vote of each person.
    pub(crate) fn grants_in_force(
        &self,
        lane: [&str; 3],
        release: &Release,
        now: i64,
        k: u64,
    ) -> Vec<&Entry> {
        let mut votes = self.known_in(lane[0], "approval.granted", k);
        votes.extend(self.known_in(lane[0], "approval.rejected", k));
        votes.retain(|vote| vote.person().is_some() && self.covers(vote, lane, release, k));
        votes.sort_by_key(|vote| vote.position);
        let is_last = |vote: &&Entry| {
            !votes.iter().any(|later| later.position > vote.position && later.person() == vote.person())
        };
        let latest: Vec<&Entry> = votes.iter().copied().filter(|vote| is_last(vote)).collect();
        latest.into_iter().filter(|vote| self.is_in_force(vote, lane, now, k)).collect()
    }

    /// Returns true if a release that the grant covers was deployed after it and is no longer in the lane.
    fn is_used_up(&self, grant: &Entry, lane: [&str; 3], k: u64) -> bool {
        let named = self.voted_release(grant, lane, k);
        let covered = |release: &Release| !crate::entry::contradicts(&named, release);
        let deployed = self.changes(lane[0], lane[1], lane[2], k).into_iter().any(|deploy| {
            deploy.is("deploy.succeeded")
                && deploy.position > grant.position
                && deploy.occurred_at > grant.occurred_at
                && covered(&deploy.release())
        });
        let present = self.present(lane[0], k);
        let is_present = present.lanes.iter().chain(&present.idle).any(|running| {
            [&*running.service, &*running.target] == lane[1..] && covered(&running.live.release)
        });
        deployed && !is_present
    }
}

/// Compares artifacts; versions if one of the releases states no artifact.
fn is_same_build(one: &Release, other: &Release) -> bool {
    match (&one.artifact, &other.artifact) {
        (Some(one), Some(other)) => same_artifact(one, other),
        _ => one.version == other.version,
    }
}
