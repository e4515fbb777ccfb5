//! The simulated world, played day by day. The drafts of a day are generated change by change and then sorted
//! by the time of their report, so that memory is bounded by one day, however long the demo is.

use ledger_domain::event::{Actor, Freeze, Link, Payload, Removal, Rollback};
use ledger_domain::{EnvironmentName, LongText, ShortText};

use super::calendar::{Calendar, Day, HOUR, MINUTE, Seconds};
use super::catalogue::{self, Actors};
use super::products::{Product, Stage};
use super::random::Random;

/// An event without the members that depend on its position in the ledger.
pub(super) struct Draft {
    /// The time of the report, which orders the events.
    pub(super) reported: Seconds,
    pub(super) occurred: Seconds,
    pub(super) kind: DraftKind,
    pub(super) actor: Option<Actor>,
    pub(super) reason: Option<LongText>,
    pub(super) links: Vec<Link>,
}

pub(super) enum DraftKind {
    Payload(Payload),
    /// Not an event: marks the current state of production as the target of later rollbacks.
    Baseline,
    /// A rollback to the last baseline, with the plan for the state of production at that time.
    RollbackRequest {
        rollback: Rollback,
        initiated_by: Actor,
    },
    /// A mark of the current state of the environment as known good.
    KnownGood {
        environment: EnvironmentName,
        name: ShortText,
    },
}

impl Draft {
    pub(super) const fn new(at: Seconds, kind: DraftKind) -> Self {
        Self { reported: at, occurred: at, kind, actor: None, reason: None, links: Vec::new() }
    }

    pub(super) fn by(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.clone());
        self
    }

    pub(super) fn because(mut self, reason: &str) -> Self {
        self.reason = Some(catalogue::long_text(reason));
        self
    }

    pub(super) fn linked(mut self, rel: &str, href: &str) -> Self {
        self.links.push(Link { rel: catalogue::short_text(rel), href: catalogue::short_text(href) });
        self
    }

    pub(super) const fn occurred_before(mut self, seconds: Seconds) -> Self {
        self.occurred -= seconds;
        self
    }
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) calendar: Calendar,
    pub(super) actors: Actors,
    pub(super) products: Vec<Product>,
    pub(super) today: Day,
    /// The time from which production accepts the next change: one change at a time, so that a rollback of
    /// the environment undoes that change and no other.
    pub(super) production_free: Seconds,
    /// Revisions of the infrastructure code, by stage.
    pub(super) infrastructure: [u32; 3],
    pub(super) runs: u64,
    pub(super) rollbacks: u64,
    drafts: Vec<Draft>,
}

impl World {
    pub(super) fn new(calendar: Calendar) -> Self {
        Self {
            random: Random::seeded(0x0072_656c_6561_7365),
            calendar,
            actors: Actors::new(),
            products: Product::all(),
            today: Day::new(0),
            production_free: 0,
            infrastructure: [1; 3],
            runs: 0,
            rollbacks: 0,
            drafts: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Adds an event that is reported when it occurs.
    pub(super) fn push_event(&mut self, at: Seconds, payload: Payload, actor: &Actor) {
        self.push(Draft::new(at, DraftKind::Payload(payload)).by(actor));
    }

    pub(super) fn next_run(&mut self) -> ShortText {
        self.runs += 1;
        catalogue::short_text(&format!("run-{}", self.runs))
    }

    pub(super) fn person(&mut self) -> Actor {
        let index = self.random.index(self.actors.people.len());
        self.actors.people[index].clone()
    }

    /// Returns any person but this one.
    pub(super) fn another_person(&mut self, than: &Actor) -> Actor {
        let others: Vec<&Actor> = self.actors.people.iter().filter(|person| *person != than).collect();
        others[self.random.index(others.len())].clone()
    }

    /// Plays the current day and advances to the next; returns the drafts in the order of their reports.
    pub(super) fn play_day(&mut self) -> Vec<Draft> {
        let day = self.today;
        if day.number == 0 {
            self.declare_environments();
        }
        self.maintain(day);
        if !day.is_weekend() {
            self.release_changes(day);
        }
        self.today = Day::new(day.number + 1);
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| draft.reported);
        drafts
    }

    fn declare_environments(&mut self) {
        for stage in Stage::ALL {
            let environment = catalogue::environment_name(stage.name());
            let payload = Payload::EnvironmentDeclared(environment, catalogue::policy(stage.name()));
            let draft = Draft::new(0, DraftKind::Payload(payload)).by(&self.actors.people[0]);
            self.push(draft.because("The ledger begins here."));
        }
    }

    fn maintain(&mut self, day: Day) {
        if day.number % 14 == 13 {
            let stage = self.random.index(self.infrastructure.len());
            self.infrastructure[stage] += 1;
        }
        if day.begins_freeze() || day.ends_freeze() {
            self.freeze(day);
        }
        if day.is_cleanup_day() {
            self.remove_from_dev(day);
        }
    }

    fn freeze(&mut self, day: Day) {
        let at = day.begins() + HOUR;
        let production = || catalogue::environment_name(Stage::Production.name());
        let name = |year| catalogue::short_text(&format!("year-end-{year}"));
        if day.begins_freeze() {
            let person = self.person();
            let known_good = DraftKind::KnownGood { environment: production(), name: name(day.year()) };
            let reason = "What the holidays begin with, should anything have to be undone.";
            self.push(Draft::new(at, known_good).by(&person).because(reason));
            // The freeze has no end time: if it had expired by the time the demo is played, it could not be
            // lifted.
            let freeze = Freeze { environment: production(), freeze_id: name(day.year()), until: None };
            let started =
                Draft::new(at + MINUTE, DraftKind::Payload(Payload::FreezeStarted(freeze))).by(&person);
            self.push(started.because("Nobody is there to help."));
        } else if day.number > 0 {
            let person = self.person();
            let freeze = Freeze { environment: production(), freeze_id: name(day.year() - 1), until: None };
            self.push_event(at, Payload::FreezeLifted(freeze), &person);
        }
    }

    /// Removes one service from dev; its next version returns there.
    fn remove_from_dev(&mut self, day: Day) {
        let index = self.random.index(self.products.len());
        let deployment = Some(self.next_run());
        let state = &mut self.products[index].dev;
        if state.live().is_some() {
            state.clear();
            let lane = state.lane.clone();
            let removal = Removal { lane, slot: None, deployment, rollback_id: None };
            let draft = Draft::new(day.begins() + HOUR, DraftKind::Payload(Payload::DeployRemoved(removal)));
            self.push(draft.by(&self.actors.deployer).because("Unused for a while."));
        }
    }

    fn release_changes(&mut self, day: Day) {
        let mut indices: Vec<usize> = (0..self.products.len()).collect();
        for _ in 0..self.random.within(&(2..=5)) {
            // Services that do not run yet come first, one at a time.
            let new = indices.iter().position(|index| self.products[*index].versions == 0);
            let chosen = new.unwrap_or_else(|| self.random.index(indices.len()));
            let start = day.begins() + self.random.within(&(5 * MINUTE..=4 * HOUR));
            self.promote(indices.swap_remove(chosen), start);
        }
    }
}
