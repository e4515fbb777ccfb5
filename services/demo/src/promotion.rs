//! Promotes a change: builds it, then takes it through dev and staging to production, as far as its checks
//! pass.

use ledger_domain::event::{
    Approval, ApprovalSubject, Built, Counts, Deploy, Ending, Evidence, Payload, Switch, Validation,
    ValidationSubject,
};
use ledger_domain::{Artifact, LaneRef, Release, ShortText};

use super::calendar::{HOUR, MINUTE, Seconds};
use super::catalogue;
use super::products::{Candidate, Stage};
use super::world::{Draft, DraftKind, World};

/// Time of day after which no change starts in production.
const LATEST_START: Seconds = 9 * HOUR;

impl World {
    /// Promotes a new version of a service as far as its checks pass.
    pub(super) fn promote(&mut self, product: usize, start: Seconds) {
        let candidate = self.build(product, start);
        // The first version of a service never fails: there is no release to roll back to.
        let is_first = self.products[product].production.iter().any(|lane| lane.live().is_none());
        let in_dev = start + self.random.within(&(4 * MINUTE..=15 * MINUTE));
        let Some(checked) = self.promote_to_dev(&candidate, in_dev, is_first) else { return };
        let in_staging = checked + self.random.within(&(5 * MINUTE..=40 * MINUTE));
        let Some(checked) = self.promote_to_staging(&candidate, in_staging, is_first) else { return };
        let ready = checked + self.random.within(&(10 * MINUTE..=90 * MINUTE));
        let in_production = ready.max(self.production_free + 2 * MINUTE);
        let is_too_late = in_production > self.today.begins() + LATEST_START;
        // A few changes are urgent even in a freeze.
        let is_frozen = self.today.is_frozen() && !self.random.happens_per_mille(80);
        if !is_first && (is_too_late || is_frozen) {
            return;
        }
        if self.products[product].entry.needs_approval
            && !self.request_approval(&candidate, in_production, is_first)
        {
            return;
        }
        self.production_free = self.promote_to_production(&candidate, in_production, is_first);
    }

    fn build(&mut self, product: usize, at: Seconds) -> Candidate {
        let written = at - self.random.within(&(10 * MINUTE..=40 * HOUR));
        let is_reconfigured = self.random.happens_per_mille(250);
        let state = &mut self.products[product];
        state.versions += 1;
        state.configs += u32::from(is_reconfigured);
        let (service, version) = (state.entry.service, state.versions);
        let digest = catalogue::hex_digest(&format!("artifact {service} {version}"));
        let candidate = Candidate {
            product,
            version: catalogue::short_text(&format!("v{version}")),
            artifact: artifact(&format!("pkg:oci/{service}@sha256:{digest}")),
            commit: catalogue::commit(&format!("commit {service} {version}")),
        };
        let built = Built {
            artifact: candidate.artifact.clone(),
            version: Some(candidate.version.clone()),
            commit: Some(candidate.commit.clone()),
            committed_at: Some(self.calendar.time(written)),
            builder: Some(catalogue::short_text("https://ci.example/builders/1")),
            provenance: Some(Evidence {
                uri: catalogue::short_text(&format!("https://ci.example/provenance/{service}/{version}")),
                digest: None,
            }),
        };
        let href = format!("https://git.example/{service}/commit/{}", candidate.commit);
        let draft =
            Draft::new(at, DraftKind::Payload(Payload::ArtifactBuilt(built))).by(&self.actors.builder);
        self.push(draft.linked("commit", &href));
        candidate
    }

    /// Returns the release of a candidate in a stage, with the configuration and infrastructure of that
    /// stage.
    fn release(&self, candidate: &Candidate, stage: Stage) -> Release {
        let product = &self.products[candidate.product];
        let (service, configs) = (product.entry.service, product.configs);
        let name = stage.name();
        let infrastructure = self.infrastructure[stage as usize];
        let revision = catalogue::commit(&format!("infrastructure {name} {infrastructure}"));
        Release {
            version: candidate.version.clone(),
            artifact: Some(candidate.artifact.clone()),
            config: Some(catalogue::digest(&format!("config {service} {name} {configs}"))),
            infrastructure: Some(catalogue::short_text(&format!("git:{revision}"))),
            commit: Some(candidate.commit.clone()),
        }
    }

    /// Promotes a candidate to this stage; returns the time of the passed check, or none.
    fn promote_to_dev(&mut self, candidate: &Candidate, at: Seconds, is_first: bool) -> Option<Seconds> {
        let release = self.release(candidate, Stage::Dev);
        let run = self.next_run();
        let state = &mut self.products[candidate.product].dev;
        let previous = state.live().cloned();
        state.deploy(release.clone());
        let lane = state.lane.clone();
        let deploy = deploy(&lane, &release, &run);
        self.report_deploy(at, Payload::DeploySucceeded(deploy), &run);
        if let Some(previous) = previous.filter(|_| self.random.happens_per_mille(25)) {
            self.report_late_deploy(&lane, &previous, at);
        }
        let checked = at + self.random.within(&(2 * MINUTE..=6 * MINUTE));
        let fails = !is_first && self.random.happens_per_mille(70);
        self.report_check(checked, "smoke", lane_subject(&lane, &release, &run), fails);
        (!fails).then_some(checked)
    }

    /// Reports, late, a deploy of the previous release by another runner. It must not change what runs.
    fn report_late_deploy(&mut self, lane: &LaneRef, previous: &Release, newer: Seconds) {
        let run = self.next_run();
        let delay = self.random.within(&(5 * MINUTE..=50 * MINUTE));
        let before = self.random.within(&(MINUTE..=3 * MINUTE));
        let payload = Payload::DeploySucceeded(deploy(lane, previous, &run));
        let draft = Draft::new(newer + delay, DraftKind::Payload(payload)).by(&self.actors.deployer);
        self.push(draft.occurred_before(delay + before).because("The runner was cut off from the network."));
    }

    /// Promotes a candidate to this stage; returns the time of the passed check, or none.
    fn promote_to_staging(&mut self, candidate: &Candidate, at: Seconds, is_first: bool) -> Option<Seconds> {
        let release = self.release(candidate, Stage::Staging);
        let run = self.next_run();
        let lane = self.products[candidate.product].staging.lane.clone();
        self.report_deploy(at, Payload::DeployStarted(deploy(&lane, &release, &run)), &run);
        let done = at + self.random.within(&(MINUTE..=4 * MINUTE));
        let breaks = !is_first && self.random.happens_per_mille(25);
        let payload = deploy(&lane, &release, &run);
        if breaks {
            self.report_deploy(done, Payload::DeployFailed(payload), &run);
            return None;
        }
        self.products[candidate.product].staging.deploy(release.clone());
        self.report_deploy(done, Payload::DeploySucceeded(payload), &run);
        let subject = || lane_subject(&lane, &release, &run);
        let started = Validation { check: catalogue::short_text("e2e"), ..validation("e2e", subject()) };
        let checker = self.actors.checker.clone();
        self.push_event(done + MINUTE, Payload::ValidationStarted(started), &checker);
        let checked = done + self.random.within(&(8 * MINUTE..=25 * MINUTE));
        let fails = !is_first && self.random.happens_per_mille(60);
        self.report_check(checked, "e2e", subject(), fails);
        let vulnerable = !is_first && self.random.happens_per_mille(15);
        let artifact = ValidationSubject::Artifact(candidate.artifact.clone());
        self.report_check(checked + MINUTE, "scan", artifact, vulnerable);
        (!fails && !vulnerable).then_some(checked + MINUTE)
    }

    fn request_approval(&mut self, candidate: &Candidate, before: Seconds, is_first: bool) -> bool {
        let person = self.person();
        let lane = self.products[candidate.product].production[0].lane.clone();
        let release = self.release(candidate, Stage::Production);
        let approval = Approval { subject: ApprovalSubject::Deploy { lane, release }, expires_at: None };
        let is_rejected = !is_first && self.random.happens_per_mille(60);
        let at = before - 2 * MINUTE;
        if is_rejected {
            let draft = Draft::new(at, DraftKind::Payload(Payload::ApprovalRejected(approval))).by(&person);
            self.push(draft.because("Not on a day like this."));
        } else {
            self.push_event(at, Payload::ApprovalGranted(approval), &person);
        }
        !is_rejected
    }

    /// Deploys target by target. Returns the time from which production is free again.
    fn promote_to_production(&mut self, candidate: &Candidate, at: Seconds, is_first: bool) -> Seconds {
        let release = self.release(candidate, Stage::Production);
        let lanes = self.products[candidate.product].production.len();
        let breaks = !is_first && self.random.happens_per_mille(30);
        // The target with a failing check, if any.
        let fails = (!is_first && self.random.happens_per_mille(75)).then(|| self.random.index(lanes));
        self.push(Draft::new(at, DraftKind::Baseline));
        let mut previous = Vec::with_capacity(lanes);
        let mut now = at;
        for index in 0..lanes {
            let run = self.next_run();
            let state = &self.products[candidate.product].production[index];
            previous.extend(state.live().cloned());
            let (lane, slot) = (state.lane.clone(), state.next_slot());
            let payload = Deploy { slot: slot.clone(), ..deploy(&lane, &release, &run) };
            self.report_deploy(now, Payload::DeployStarted(payload.clone()), &run);
            now += self.random.within(&(2 * MINUTE..=6 * MINUTE));
            if breaks && index == 0 {
                self.report_deploy(now, Payload::DeployFailed(payload), &run);
                return now;
            }
            self.products[candidate.product].production[index].deploy(release.clone());
            self.report_deploy(now, Payload::DeploySucceeded(payload), &run);
            if let Some(slot) = slot {
                now += self.random.within(&(MINUTE..=3 * MINUTE));
                self.switch(candidate.product, index, now, slot, Some(run.clone()), None);
            }
            now += self.random.within(&(MINUTE..=4 * MINUTE));
            let fails_here = fails == Some(index);
            self.report_check(now, "smoke", lane_subject(&lane, &release, &run), fails_here);
            if fails_here {
                return self.roll_back(candidate.product, previous, now + MINUTE);
            }
            now += MINUTE;
        }
        now
    }

    /// Makes the lane's other slot live.
    pub(super) fn switch(
        &mut self,
        product: usize,
        index: usize,
        at: Seconds,
        slot: ledger_domain::SlotName,
        deployment: Option<ShortText>,
        rollback_id: Option<ShortText>,
    ) {
        let state = &mut self.products[product].production[index];
        state.switch();
        let switch = Switch { lane: state.lane.clone(), slot, deployment, rollback_id };
        let deployer = self.actors.deployer.clone();
        self.push_event(at, Payload::TrafficSwitched(switch), &deployer);
    }

    /// Reports a deploy, with a link to its run.
    pub(super) fn report_deploy(&mut self, at: Seconds, payload: Payload, run: &ShortText) {
        let draft = Draft::new(at, DraftKind::Payload(payload)).by(&self.actors.deployer);
        self.push(draft.linked("pipeline", &format!("https://ci.example/{run}")));
    }

    /// Reports the result of a check.
    pub(super) fn report_check(&mut self, at: Seconds, check: &str, subject: ValidationSubject, fails: bool) {
        let total = self.random.within(&(12..=240)).cast_unsigned();
        let failed = if fails { 1 + self.random.index(9) as u64 } else { 0 };
        let skipped = self.random.index(4) as u64;
        let uri = format!("https://checks.example/{check}/{}", self.runs);
        let result = Validation {
            evidence: vec![Evidence { digest: None, uri: catalogue::short_text(&uri) }],
            counts: Some(Counts { passed: total - failed, failed, skipped }),
            ..validation(check, subject)
        };
        let checker = self.actors.checker.clone();
        let payload =
            if fails { Payload::ValidationFailed(result) } else { Payload::ValidationPassed(result) };
        self.push_event(at, payload, &checker);
    }
}

pub(super) fn deploy(lane: &LaneRef, release: &Release, run: &ShortText) -> Deploy {
    Deploy {
        lane: lane.clone(),
        slot: None,
        deployment: Some(run.clone()),
        release: release.clone(),
        reversible: true,
        rollback_id: None,
        ending: Ending::default(),
    }
}

pub(super) fn lane_subject(lane: &LaneRef, release: &Release, run: &ShortText) -> ValidationSubject {
    ValidationSubject::Lane {
        lane: lane.clone(),
        release: Some(release.clone()),
        deployment: Some(run.clone()),
    }
}

fn validation(check: &str, subject: ValidationSubject) -> Validation {
    Validation { check: catalogue::short_text(check), subject, run: None, evidence: Vec::new(), counts: None }
}

fn artifact(text: &str) -> Artifact {
    Artifact::parse(text).expect("the demo's artifacts are valid package URLs")
}
