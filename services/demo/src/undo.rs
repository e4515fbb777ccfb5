//! A change's way back: requested with its plan, carried out lane by lane, checked.

use std::collections::BTreeSet;

use ledger_domain::Release;
use ledger_domain::event::{Approval, ApprovalSubject, Deploy, Payload, Rollback, RollbackStart};

use super::calendar::{MINUTE, Seconds};
use super::catalogue;
use super::landscape::Stage;
use super::promotion::{deploy, lane_of};
use super::world::{Draft, What, World};

impl World {
    /// Brings the first sites of a product back to what ran there before, one a site, which are the steps
    /// that the request's plan will have. Answers when it is done.
    pub(super) fn roll_back(&mut self, product: usize, former: Vec<Release>, at: Seconds) -> Seconds {
        self.rollbacks += 1;
        let rollback = Rollback {
            environment: catalogue::environment_name(Stage::Production.name()),
            rollback_id: catalogue::line(&format!("rollback-{}", self.rollbacks)),
        };
        let mut now = self.request(&rollback, at);
        let controller = self.cast.controller.clone();
        self.did(
            now,
            Payload::RollbackStarted(RollbackStart {
                rollback: rollback.clone(),
                acknowledge: BTreeSet::new(),
            }),
            &controller,
        );
        for (site, release) in former.into_iter().enumerate() {
            now += self.random.within(&(20..=3 * MINUTE));
            now = self.undo(product, site, release, &rollback, now);
        }
        self.did(now + MINUTE, Payload::RollbackSucceeded(rollback), &controller);
        now + 2 * MINUTE
    }

    fn request(&mut self, rollback: &Rollback, at: Seconds) -> Seconds {
        let initiated_by = self.person();
        let request =
            What::RollbackRequest { rollback: rollback.clone(), initiated_by: initiated_by.clone() };
        let reason = if self.random.once_in_thousand(600) { "smoke fails" } else { "Customers see errors." };
        self.push(Draft::new(at, request).by(&initiated_by).because(reason));
        if self.random.once_in_thousand(400) {
            let other = self.another_person(&initiated_by);
            let subject = ApprovalSubject::Rollback {
                environment: rollback.environment.clone(),
                rollback_id: rollback.rollback_id.clone(),
            };
            self.did(at + MINUTE, Payload::ApprovalGranted(Approval { subject, expires_at: None }), &other);
        }
        at + 2 * MINUTE
    }

    /// One step: a switch back where the former release still stands in the other slot, else a
    /// deploy of it; then a check.
    fn undo(
        &mut self,
        product: usize,
        site: usize,
        release: Release,
        rollback: &Rollback,
        at: Seconds,
    ) -> Seconds {
        let run = self.run();
        let rollback_id = Some(rollback.rollback_id.clone());
        let (lane, slot) = {
            let site = &self.products[product].production[site];
            (site.lane.clone(), site.next_slot())
        };
        let done = if let Some(slot) = slot {
            self.switch(product, site, at, slot, Some(run.clone()), rollback_id);
            at
        } else {
            let it = Deploy { rollback_id, ..deploy(&lane, &release, &run) };
            self.deployed(at, Payload::DeployStarted(it.clone()), &run);
            let done = at + self.random.within(&(MINUTE..=4 * MINUTE));
            self.products[product].production[site].put(release.clone());
            self.deployed(done, Payload::DeploySucceeded(it), &run);
            done
        };
        self.check(done + MINUTE, "smoke", lane_of(&lane, &release, &run), false);
        done + MINUTE
    }
}
