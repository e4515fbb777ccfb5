//! A property test that the back-test and the gate agree: for any history, the decision about its last deploy is the
//! gate's decision by the evidence known then.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::naive::{LAST_SECOND, decision};
use super::{Entry, backtest_of, freeze, name, person, rollback, rollback_start, short_text, slot, time};
use crate::event::{
    Action, Approval, ApprovalSubject, Built, Counts, Deploy, Ending, Mark, MarkedStatus, Payload, Plan,
    Policy, Promotion, PromotionTargets, Reinstated, ReleasePointId, Removal, Revoked, RollbackRequest, Step,
    Switch, Validation, ValidationSubject,
};
use crate::{
    Artifact, ConfigDigest, LaneFilter, LaneRef, Position, Release, ServiceName, ShortText, SlotName,
    TargetName,
};

/// The random numbers from which an event is generated. A separate strategy for each kind would take minutes to
/// compile.
type RandomNumbers = [Index; 12];

/// A generator of events from random numbers.
struct EventGenerator<'c> {
    numbers: std::slice::Iter<'c, Index>,
    /// True to use fewer lanes and releases, so that more events concern the same ones.
    narrow: bool,
}

impl EventGenerator<'_> {
    fn number(&mut self, count: usize) -> usize {
        self.numbers.next().map_or(0, |index| index.index(count))
    }

    fn choose<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.number(texts.len())]
    }

    fn lane(&mut self) -> LaneRef {
        let all = ["staging", "staging", "staging", "production", "production", "dev"];
        let environment = name(self.choose(if self.narrow { &all[..4] } else { &all }));
        let service = self.choose(if self.narrow { &["web"] } else { &["web", "web", "web", "api"] });
        let service = ServiceName::parse(service).expect("a name");
        let target = match self.choose(if self.narrow { &["", "", "", "eu"] } else { &["", "", "eu", "us"] })
        {
            "" => None,
            target => Some(TargetName::parse(target).expect("a name")),
        };
        LaneRef { environment, service, target }
    }

    fn slot(&mut self) -> Option<SlotName> {
        Some(self.choose(&["", "", "blue", "green"])).filter(|text| !text.is_empty()).map(slot)
    }

    fn artifact(&mut self) -> Artifact {
        let digit = self.choose(&["1", "1", "2"]);
        let digest = format!("sha256:{}", digit.repeat(64));
        let text = match self.number(3) {
            0 => digest,
            1 => format!("registry.example/web@{digest}"),
            _ => format!("pkg:oci/{}@{digest}", self.choose(&["web", "api"])),
        };
        Artifact::parse(&text).expect("an artifact")
    }

    fn release(&mut self) -> Release {
        let version = short_text(self.choose(&["1", "1", "2"]));
        let artifact = (self.number(if self.narrow { 5 } else { 2 }) == 0).then(|| self.artifact());
        let config = match self.choose(&["", "", "", "a"]) {
            "" => None,
            _ if self.narrow => None,
            digit => Some(ConfigDigest::parse(&format!("sha256:{}", digit.repeat(64))).expect("a digest")),
        };
        Release { artifact, config, ..Release::of_version(version) }
    }

    fn optional(&mut self, text: &str) -> Option<ShortText> {
        (self.number(3) == 0).then(|| short_text(text))
    }

    fn deploy(&mut self) -> Deploy {
        Deploy {
            lane: self.lane(),
            slot: self.slot(),
            release: self.release(),
            deployment: self.optional("run-1"),
            rollback_id: (self.number(8) == 0).then(|| short_text("r-1")),
            reversible: true,
            ending: Ending::default(),
        }
    }

    fn validation(&mut self) -> Validation {
        let lane = self.lane();
        let subject = match self.number(6) {
            0 => ValidationSubject::Environment(lane.environment),
            1 => ValidationSubject::Artifact(self.artifact()),
            2 => ValidationSubject::Lane { lane, release: None, deployment: Some(short_text("run-1")) },
            3 => ValidationSubject::Lane { lane, release: None, deployment: None },
            _ => ValidationSubject::Lane { lane, release: Some(self.release()), deployment: None },
        };
        let counts = match self.number(5) {
            0 => Some(Counts { passed: 1, failed: 1, skipped: 0 }),
            1 => Some(Counts { passed: 1, failed: 0, skipped: 1 }),
            _ => None,
        };
        let run = (self.number(4) == 0).then(|| short_text("job-1"));
        Validation {
            check: short_text(self.choose(&["smoke", "smoke", "e2e"])),
            subject,
            run,
            evidence: Vec::new(),
            counts,
        }
    }

    fn request(&mut self, id: &str) -> RollbackRequest {
        let target = TargetName::parse(self.choose(&["default", "eu"])).expect("a name");
        let service = ServiceName::parse("web").expect("a name");
        let (from, to) = (Some(self.release()), (self.number(3) > 0).then(|| self.release()));
        let step = Step { wave: 1, service, target, action: Action::Redeploy, slot: None, from, to };
        RollbackRequest {
            rollback: rollback(id),
            to: Position::new(1),
            at: None,
            source: None,
            scope: LaneFilter::default(),
            plan: Plan { from: Position::new(1), steps: vec![step] },
            plan_digest: ConfigDigest::parse(&format!("sha256:{}", "0".repeat(64))).expect("a digest"),
            initiated_by: person("mira"),
            automatic: false,
            force: false,
            policy: None,
            cause: None,
        }
    }

    fn build(&mut self) -> Built {
        Built {
            artifact: self.artifact(),
            version: Some(short_text(self.choose(&["1", "2"]))),
            commit: None,
            committed_at: None,
            builder: None,
            provenance: None,
        }
    }

    fn revocation(&mut self) -> Payload {
        let reinstates = self.number(3) == 0;
        let artifact = self.artifact();
        let deleted = self.number(2) == 0;
        match reinstates {
            true => Payload::ArtifactReinstated(Reinstated { artifact }),
            false => Payload::ArtifactRevoked(Revoked { artifact, advisory: None, deleted }),
        }
    }

    /// Generates a grant or a rejection of a deploy to production.
    fn vote(&mut self) -> Payload {
        let release = self.release();
        let lane = LaneRef { environment: name("production"), ..self.lane() };
        let expires_at = (self.number(3) == 0).then(|| time(self.number(60) as i64));
        let approval = Approval { subject: ApprovalSubject::Deploy { lane, release }, expires_at };
        match self.number(4) {
            0 => Payload::ApprovalRejected(approval),
            _ => Payload::ApprovalGranted(approval),
        }
    }

    /// Generates a mark, or the revocation of a mark, of a point of staging up to a position.
    fn mark(&mut self, position: u64) -> Payload {
        let position = Position::new(1 + self.number(position as usize) as u64);
        let point = ReleasePointId { environment: name("staging"), position };
        let status = [MarkedStatus::KnownGood, MarkedStatus::Bad][self.number(2)];
        match self.number(4) {
            0 => Payload::ReleasePointRevoked(point),
            _ => Payload::ReleasePointMarked(Mark { point, status, name: None }),
        }
    }

    /// Generates the payload of the event at a position.
    fn payload(&mut self, position: u64) -> Payload {
        let kind = self.number(40);
        let id = ["r-1", "r-2"][kind % 2];
        let environment = || name(["staging", "production"][kind % 2]);
        match kind {
            0..=7 => Payload::DeploySucceeded(self.deploy()),
            8 => Payload::DeployFailed(self.deploy()),
            9 => {
                let Deploy { lane, slot, deployment, rollback_id, .. } = self.deploy();
                Payload::DeployRemoved(Removal { lane, slot, deployment, rollback_id })
            }
            10 | 11 => {
                let Deploy { lane, slot: named, deployment, rollback_id, .. } = self.deploy();
                let slot = named.unwrap_or_else(|| slot("blue"));
                Payload::TrafficSwitched(Switch { lane, slot, deployment, rollback_id })
            }
            12 | 13 => Payload::ValidationStarted(self.validation()),
            14..=17 => Payload::ValidationPassed(self.validation()),
            18 => Payload::ValidationFailed(self.validation()),
            19 => Payload::ArtifactBuilt(self.build()),
            20 => self.revocation(),
            21 | 22 => {
                let soak_seconds = self.number(20) as u64;
                let required_validations = self.optional("smoke").into_iter().collect();
                let policy = Policy { soak_seconds, required_validations, ..Policy::default() };
                Payload::EnvironmentDeclared(environment(), policy)
            }
            23 if !self.narrow && self.number(2) == 0 => Payload::EnvironmentRetired(environment()),
            23 | 24 => self.vote(),
            25 | 26 => self.mark(position),
            27 => Payload::RollbackRequested(self.request(id)),
            28..=31 => match self.number(9) {
                0 => Payload::RollbackCancelled(rollback(id)),
                1..=4 => Payload::RollbackSucceeded(rollback(id)),
                _ => Payload::RollbackStarted(rollback_start(id)),
            },
            32 | 33 => Payload::FreezeLifted(freeze(None)),
            34 => Payload::FreezeStarted(freeze((self.number(2) == 0).then_some(self.number(60) as i64))),
            _ => Payload::ValidationPassed(self.validation()),
        }
    }
}

/// Generates events, most of them in the order in which they occurred, with a deploy to production at the end.
fn any_history() -> impl Strategy<Value = Vec<Entry>> {
    let numbers: [_; 12] = std::array::from_fn(|_| any::<Index>());
    let entry =
        (any::<Index>(), numbers, prop::option::weighted(0.1, any::<Index>()), select(vec!["ada", "mira"]));
    let entries = prop::collection::vec(entry, 1..40);
    (entries, any::<bool>(), prop::option::weighted(0.7, any::<Index>())).prop_map(
        |(entries, narrow, again)| {
            let count = entries.len();
            let generated = entries.into_iter().zip(1..).map(|((at, numbers, corrects, actor), position)| {
                entry_of(at, (&numbers, narrow), corrects, actor, (position, count))
            });
            let mut generated: Vec<Entry> = generated.collect();
            repeat_release(&mut generated, again);
            generated
        },
    )
}

/// Replaces the release of the last deploy by one that was deployed before or that a rollback left.
fn repeat_release(entries: &mut [Entry], again: Option<Index>) {
    let releases = entries.iter().rev().skip(1).filter_map(|entry| match &entry.payload {
        Payload::DeploySucceeded(deploy) => Some(deploy.release.clone()),
        Payload::RollbackRequested(request) => request.plan.steps[0].from.clone(),
        _ => None,
    });
    let releases: Vec<Release> = releases.collect();
    let again = again.filter(|_| !releases.is_empty()).map(|again| again.get(&releases).clone());
    if let (Some(entry), Some(release)) = (entries.last_mut(), again)
        && let Payload::DeploySucceeded(deploy) = &mut entry.payload
    {
        deploy.release = release;
    }
}

fn entry_of(
    at: Index,
    (numbers, narrow): (&RandomNumbers, bool),
    corrects: Option<Index>,
    actor: &'static str,
    (position, count): (u64, usize),
) -> Entry {
    let mut generator = EventGenerator { numbers: numbers.iter(), narrow };
    let is_last = position == count as u64;
    let payload = if is_last {
        let mut deploy = generator.deploy();
        deploy.lane.environment = name("production");
        deploy.rollback_id = None;
        Payload::DeploySucceeded(deploy)
    } else {
        generator.payload(position)
    };
    // Two of three events are recorded when they occur.
    let recorded_at = LAST_SECOND as u64 * position / count as u64;
    let at = match at.index(30) {
        0..10 => at.index(1 + LAST_SECOND as usize) as i64,
        _ => recorded_at as i64,
    };
    let corrects = corrects.map(|index| 1 + index.index(position as usize) as u64);
    Entry { at, payload, actor, corrects: corrects.filter(|corrected| *corrected < position) }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), 0..3_u32).prop_map(|(promotion, any_target, approvals)| Policy {
        promotion: promotion.then(|| Promotion {
            from: vec![name("staging")],
            targets: if any_target { PromotionTargets::Any } else { PromotionTargets::All },
        }),
        approvals,
        ..Policy::default()
    })
}

proptest! {
    #[test]
    fn the_back_test_decides_like_the_gate(policy in any_policy(), history in any_history()) {
        let backtest = backtest_of(&policy, &history, usize::MAX);
        let position = Position::new(history.len() as u64);
        let stopped = backtest.decision_at(position).map(|decision| decision.stopped);
        let expected = decision(&policy, &history);
        prop_assert_eq!(stopped, expected.as_ref().map(|decision| !decision.allowed));
        let failed = expected.into_iter().flat_map(|decision| decision.findings);
        let failed: Vec<_> = failed.filter(|finding| !finding.passes).collect();
        prop_assert_eq!(backtest.findings.get(&position).cloned().unwrap_or_default(), failed);
        let mut before = backtest_of(&policy, &history[..history.len() - 1], usize::MAX);
        let (last, event) = (&history[history.len() - 1], history[history.len() - 1].event());
        if let (Payload::DeploySucceeded(deploy), None) = (&event.payload, &event.corrects)
            && let Some(target) = before.target_of(&deploy.lane)
        {
            // Compares the findings that pass as well.
            let lane = deploy.lane.at(target);
            let decided = before.gate_decision(&lane, &deploy.release, &event, time(last.at));
            prop_assert_eq!(Some(decided), decision(&policy, &history));
        }
    }
}
