//! A change's way: built, then through dev and staging to production, as far as its checks let it.

use ledger_domain::event::{
    Approval, ApprovalSubject, Built, Counts, Deploy, Ending, Evidence, Payload, Switch, Validation,
    ValidationSubject,
};
use ledger_domain::{Artifact, LaneRef, Release, ShortText};

use super::calendar::{HOUR, MINUTE, Seconds};
use super::catalogue;
use super::landscape::{Candidate, Stage};
use super::world::{Draft, What, World};

/// No change is begun in production after this time of the day.
const LATEST: Seconds = 9 * HOUR;

impl World {
    /// Takes a new version of a service as far as it comes.
    pub(super) fn promote(&mut self, product: usize, begin: Seconds) {
        let candidate = self.build(product, begin);
        // The first version of a service fails nowhere: there would be nothing to go back to.
        let first = self.products[product].production.iter().any(|site| site.live().is_none());
        let in_dev = begin + self.random.within(&(4 * MINUTE..=15 * MINUTE));
        let Some(checked) = self.reach_dev(&candidate, in_dev, first) else { return };
        let in_staging = checked + self.random.within(&(5 * MINUTE..=40 * MINUTE));
        let Some(checked) = self.reach_staging(&candidate, in_staging, first) else { return };
        let ready = checked + self.random.within(&(10 * MINUTE..=90 * MINUTE));
        let in_production = ready.max(self.production_free + 2 * MINUTE);
        let too_late = in_production > self.today.begins() + LATEST;
        // Even in a freeze a few changes cannot wait.
        let frozen = self.today.is_frozen() && !self.random.once_in_thousand(80);
        if !first && (too_late || frozen) {
            return;
        }
        if self.products[product].entry.approval && !self.approved(&candidate, in_production, first) {
            return;
        }
        self.production_free = self.reach_production(&candidate, in_production, first);
    }

    fn build(&mut self, product: usize, at: Seconds) -> Candidate {
        let written = at - self.random.within(&(10 * MINUTE..=40 * HOUR));
        let reconfigured = self.random.once_in_thousand(250);
        let it = &mut self.products[product];
        it.versions += 1;
        it.configs += u32::from(reconfigured);
        let (service, version) = (it.entry.service, it.versions);
        let digits = catalogue::digits(&format!("artifact {service} {version}"));
        let candidate = Candidate {
            product,
            version: catalogue::line(&format!("v{version}")),
            artifact: artifact(&format!("pkg:oci/{service}@sha256:{digits}")),
            commit: catalogue::commit(&format!("commit {service} {version}")),
        };
        let built = Built {
            artifact: candidate.artifact.clone(),
            version: Some(candidate.version.clone()),
            commit: Some(candidate.commit.clone()),
            committed_at: Some(self.calendar.time(written)),
            builder: Some(catalogue::line("https://ci.example/builders/1")),
            provenance: Some(Evidence {
                uri: catalogue::line(&format!("https://ci.example/provenance/{service}/{version}")),
                digest: None,
            }),
        };
        let href = format!("https://git.example/{service}/commit/{}", candidate.commit);
        let draft = Draft::new(at, What::Payload(Payload::ArtifactBuilt(built))).by(&self.cast.builder);
        self.push(draft.linked("commit", &href));
        candidate
    }

    /// What the candidate is in a stage: there it has a configuration and an infrastructure.
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
            infrastructure: Some(catalogue::line(&format!("git:{revision}"))),
            commit: Some(candidate.commit.clone()),
        }
    }

    /// Answers when it passed there, if it did.
    fn reach_dev(&mut self, candidate: &Candidate, at: Seconds, first: bool) -> Option<Seconds> {
        let release = self.release(candidate, Stage::Dev);
        let run = self.run();
        let site = &mut self.products[candidate.product].dev;
        let former = site.live().cloned();
        site.put(release.clone());
        let lane = site.lane.clone();
        let deploy = deploy(&lane, &release, &run);
        self.deployed(at, Payload::DeploySucceeded(deploy), &run);
        if let Some(former) = former.filter(|_| self.random.once_in_thousand(25)) {
            self.late_report(&lane, &former, at);
        }
        let checked = at + self.random.within(&(2 * MINUTE..=6 * MINUTE));
        let fails = !first && self.random.once_in_thousand(70);
        self.check(checked, "smoke", lane_of(&lane, &release, &run), fails);
        (!fails).then_some(checked)
    }

    /// Another runner had put the former release there again, and tells of it only now: what runs
    /// there must not change by that.
    fn late_report(&mut self, lane: &LaneRef, former: &Release, newer: Seconds) {
        let run = self.run();
        let late = self.random.within(&(5 * MINUTE..=50 * MINUTE));
        let before = self.random.within(&(MINUTE..=3 * MINUTE));
        let payload = Payload::DeploySucceeded(deploy(lane, former, &run));
        let draft = Draft::new(newer + late, What::Payload(payload)).by(&self.cast.deployer);
        self.push(draft.occurred_before(late + before).because("The runner was cut off from the network."));
    }

    /// Answers when it passed there, if it did.
    fn reach_staging(&mut self, candidate: &Candidate, at: Seconds, first: bool) -> Option<Seconds> {
        let release = self.release(candidate, Stage::Staging);
        let run = self.run();
        let lane = self.products[candidate.product].staging.lane.clone();
        self.deployed(at, Payload::DeployStarted(deploy(&lane, &release, &run)), &run);
        let done = at + self.random.within(&(MINUTE..=4 * MINUTE));
        let breaks = !first && self.random.once_in_thousand(25);
        let outcome = deploy(&lane, &release, &run);
        if breaks {
            self.deployed(done, Payload::DeployFailed(outcome), &run);
            return None;
        }
        self.products[candidate.product].staging.put(release.clone());
        self.deployed(done, Payload::DeploySucceeded(outcome), &run);
        let subject = || lane_of(&lane, &release, &run);
        let started = Validation { check: catalogue::line("e2e"), ..validation("e2e", subject()) };
        let checker = self.cast.checker.clone();
        self.did(done + MINUTE, Payload::ValidationStarted(started), &checker);
        let checked = done + self.random.within(&(8 * MINUTE..=25 * MINUTE));
        let fails = !first && self.random.once_in_thousand(60);
        self.check(checked, "e2e", subject(), fails);
        let vulnerable = !first && self.random.once_in_thousand(15);
        let artifact = ValidationSubject::Artifact(candidate.artifact.clone());
        self.check(checked + MINUTE, "scan", artifact, vulnerable);
        (!fails && !vulnerable).then_some(checked + MINUTE)
    }

    fn approved(&mut self, candidate: &Candidate, before: Seconds, first: bool) -> bool {
        let person = self.person();
        let lane = self.products[candidate.product].production[0].lane.clone();
        let release = self.release(candidate, Stage::Production);
        let approval = Approval { subject: ApprovalSubject::Deploy { lane, release }, expires_at: None };
        let rejected = !first && self.random.once_in_thousand(60);
        let at = before - 2 * MINUTE;
        if rejected {
            let draft = Draft::new(at, What::Payload(Payload::ApprovalRejected(approval))).by(&person);
            self.push(draft.because("Not on a day like this."));
        } else {
            self.did(at, Payload::ApprovalGranted(approval), &person);
        }
        !rejected
    }

    /// Deploys target by target. Answers when production is free again.
    fn reach_production(&mut self, candidate: &Candidate, at: Seconds, first: bool) -> Seconds {
        let release = self.release(candidate, Stage::Production);
        let sites = self.products[candidate.product].production.len();
        let breaks = !first && self.random.once_in_thousand(30);
        // The target whose check fails, if one does.
        let fails = (!first && self.random.once_in_thousand(75)).then(|| self.random.index(sites));
        self.push(Draft::new(at, What::Baseline));
        let mut former = Vec::with_capacity(sites);
        let mut now = at;
        for index in 0..sites {
            let run = self.run();
            let site = &self.products[candidate.product].production[index];
            former.extend(site.live().cloned());
            let (lane, slot) = (site.lane.clone(), site.next_slot());
            let it = Deploy { slot: slot.clone(), ..deploy(&lane, &release, &run) };
            self.deployed(now, Payload::DeployStarted(it.clone()), &run);
            now += self.random.within(&(2 * MINUTE..=6 * MINUTE));
            if breaks && index == 0 {
                self.deployed(now, Payload::DeployFailed(it), &run);
                return now;
            }
            self.products[candidate.product].production[index].put(release.clone());
            self.deployed(now, Payload::DeploySucceeded(it), &run);
            if let Some(slot) = slot {
                now += self.random.within(&(MINUTE..=3 * MINUTE));
                self.switch(candidate.product, index, now, slot, Some(run.clone()), None);
            }
            now += self.random.within(&(MINUTE..=4 * MINUTE));
            let failed = fails == Some(index);
            self.check(now, "smoke", lane_of(&lane, &release, &run), failed);
            if failed {
                return self.roll_back(candidate.product, former, now + MINUTE);
            }
            now += MINUTE;
        }
        now
    }

    /// Makes the lane's other slot live.
    pub(super) fn switch(
        &mut self,
        product: usize,
        site: usize,
        at: Seconds,
        slot: ledger_domain::SlotName,
        deployment: Option<ShortText>,
        rollback_id: Option<ShortText>,
    ) {
        let site = &mut self.products[product].production[site];
        site.switch();
        let switch = Switch { lane: site.lane.clone(), slot, deployment, rollback_id };
        let deployer = self.cast.deployer.clone();
        self.did(at, Payload::TrafficSwitched(switch), &deployer);
    }

    /// Reports a deploy, with the run that did it.
    pub(super) fn deployed(&mut self, at: Seconds, payload: Payload, run: &ShortText) {
        let draft = Draft::new(at, What::Payload(payload)).by(&self.cast.deployer);
        self.push(draft.linked("pipeline", &format!("https://ci.example/{run}")));
    }

    /// Reports what came of a check.
    pub(super) fn check(&mut self, at: Seconds, check: &str, subject: ValidationSubject, fails: bool) {
        let total = self.random.within(&(12..=240)).cast_unsigned();
        let failed = if fails { 1 + self.random.index(9) as u64 } else { 0 };
        let skipped = self.random.index(4) as u64;
        let report = format!("https://checks.example/{check}/{}", self.runs);
        let outcome = Validation {
            evidence: vec![Evidence { digest: None, uri: catalogue::line(&report) }],
            counts: Some(Counts { passed: total - failed, failed, skipped }),
            ..validation(check, subject)
        };
        let checker = self.cast.checker.clone();
        let payload =
            if fails { Payload::ValidationFailed(outcome) } else { Payload::ValidationPassed(outcome) };
        self.did(at, payload, &checker);
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

pub(super) fn lane_of(lane: &LaneRef, release: &Release, run: &ShortText) -> ValidationSubject {
    ValidationSubject::Lane {
        lane: lane.clone(),
        release: Some(release.clone()),
        deployment: Some(run.clone()),
    }
}

fn validation(check: &str, subject: ValidationSubject) -> Validation {
    Validation { check: catalogue::line(check), subject, run: None, evidence: Vec::new(), counts: None }
}

fn artifact(text: &str) -> Artifact {
    Artifact::parse(text).expect("the demo's artifacts are package URLs")
}
