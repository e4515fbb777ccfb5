//! Rolls a change back: requests the rollback with its plan, executes it lane by lane, and checks each lane.

use std::collections::BTreeSet;

use ledger_domain::Release;
use ledger_domain::event::{Approval, ApprovalSubject, Deploy, Payload, Rollback, RollbackStart};

use super::calendar::{MINUTE, Seconds};
use super::catalogue;
use super::products::Stage;
use super::promotion::{deploy, lane_subject};
use super::world::{Draft, DraftKind, World};

impl World {
    /// Rolls the first production lanes of a product back to their previous releases, one step per lane,
    /// which are the steps of the requested plan. Returns the end of the rollback.
    pub(super) fn roll_back(&mut self, product: usize, previous: Vec<Release>, at: Seconds) -> Seconds {
        self.rollbacks += 1;
        let rollback = Rollback {
            environment: catalogue::environment_name(Stage::Production.name()),
            rollback_id: catalogue::short_text(&format!("rollback-{}", self.rollbacks)),
        };
        let mut now = self.request_rollback(&rollback, at);
        let controller = self.actors.controller.clone();
        self.push_event(
            now,
            Payload::RollbackStarted(RollbackStart {
                rollback: rollback.clone(),
                acknowledge: BTreeSet::new(),
            }),
            &controller,
        );
        for (lane, release) in previous.into_iter().enumerate() {
            now += self.random.within(&(20..=3 * MINUTE));
            now = self.roll_back_lane(product, lane, release, &rollback, now);
        }
        self.push_event(now + MINUTE, Payload::RollbackSucceeded(rollback), &controller);
        now + 2 * MINUTE
    }

    fn request_rollback(&mut self, rollback: &Rollback, at: Seconds) -> Seconds {
        let initiated_by = self.person();
        let request =
            DraftKind::RollbackRequest { rollback: rollback.clone(), initiated_by: initiated_by.clone() };
        let reason = if self.random.happens_per_mille(600) { "smoke fails" } else { "Customers see errors." };
        self.push(Draft::new(at, request).by(&initiated_by).because(reason));
        if self.random.happens_per_mille(400) {
            let other = self.another_person(&initiated_by);
            let subject = ApprovalSubject::Rollback {
                environment: rollback.environment.clone(),
                rollback_id: rollback.rollback_id.clone(),
            };
            self.push_event(
                at + MINUTE,
                Payload::ApprovalGranted(Approval { subject, expires_at: None }),
                &other,
            );
        }
        at + 2 * MINUTE
    }

    /// Executes one step: switches back if the previous release is still in the other slot, otherwise deploys
    /// it; then checks it.
    fn roll_back_lane(
        &mut self,
        product: usize,
        index: usize,
        release: Release,
        rollback: &Rollback,
        at: Seconds,
    ) -> Seconds {
        let run = self.next_run();
        let rollback_id = Some(rollback.rollback_id.clone());
        let (lane, slot) = {
            let state = &self.products[product].production[index];
            (state.lane.clone(), state.next_slot())
        };
        let done = if let Some(slot) = slot {
            self.switch(product, index, at, slot, Some(run.clone()), rollback_id);
            at
        } else {
            let payload = Deploy { rollback_id, ..deploy(&lane, &release, &run) };
            self.report_deploy(at, Payload::DeployStarted(payload.clone()), &run);
            let done = at + self.random.within(&(MINUTE..=4 * MINUTE));
            self.products[product].production[index].deploy(release.clone());
            self.report_deploy(done, Payload::DeploySucceeded(payload), &run);
            done
        };
        self.report_check(done + MINUTE, "smoke", lane_subject(&lane, &release, &run), false);
        done + MINUTE
    }
}
