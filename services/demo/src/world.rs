//! The demo's world, played day by day. A day's drafts are made change by change and then put in the
//! order in which they are reported, so that the memory needed is a day's, however long the demo is.

use ledger_domain::event::{Actor, Freeze, Link, Payload, Removal, Rollback};
use ledger_domain::{EnvironmentName, LongText, ShortText};

use super::calendar::{Calendar, Day, HOUR, MINUTE, Seconds};
use super::catalogue::{self, Cast};
use super::landscape::{Product, Stage};
use super::random::Random;

/// An event to be, in which what depends on its place in the ledger is still open.
pub(super) struct Draft {
    /// When the ledger hears of it: the order of events.
    pub(super) reported: Seconds,
    pub(super) occurred: Seconds,
    pub(super) what: What,
    pub(super) actor: Option<Actor>,
    pub(super) reason: Option<LongText>,
    pub(super) links: Vec<Link>,
}

pub(super) enum What {
    Payload(Payload),
    /// Not an event: production is as it should be, which a rollback can go back to.
    Baseline,
    /// A rollback to the last baseline, with the plan that production then calls for.
    RollbackRequest {
        rollback: Rollback,
        initiated_by: Actor,
    },
    /// The environment, as it is now, is known to be good.
    KnownGood {
        environment: EnvironmentName,
        name: ShortText,
    },
}

impl Draft {
    pub(super) const fn new(at: Seconds, what: What) -> Self {
        Self { reported: at, occurred: at, what, actor: None, reason: None, links: Vec::new() }
    }

    pub(super) fn by(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.clone());
        self
    }

    pub(super) fn because(mut self, reason: &str) -> Self {
        self.reason = Some(catalogue::prose(reason));
        self
    }

    pub(super) fn linked(mut self, rel: &str, href: &str) -> Self {
        self.links.push(Link { rel: catalogue::line(rel), href: catalogue::line(href) });
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
    pub(super) cast: Cast,
    pub(super) products: Vec<Product>,
    pub(super) today: Day,
    /// When production is next free: one change at a time goes there, so that a rollback of the
    /// environment undoes that change and nothing else.
    pub(super) production_free: Seconds,
    /// Revisions of the infrastructure's code, by stage.
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
            cast: Cast::new(),
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

    /// A fact that is reported when it occurs.
    pub(super) fn did(&mut self, at: Seconds, payload: Payload, actor: &Actor) {
        self.push(Draft::new(at, What::Payload(payload)).by(actor));
    }

    pub(super) fn run(&mut self) -> ShortText {
        self.runs += 1;
        catalogue::line(&format!("run-{}", self.runs))
    }

    pub(super) fn person(&mut self) -> Actor {
        let index = self.random.index(self.cast.people.len());
        self.cast.people[index].clone()
    }

    /// Anybody but this one.
    pub(super) fn another_person(&mut self, than: &Actor) -> Actor {
        let others: Vec<&Actor> = self.cast.people.iter().filter(|person| *person != than).collect();
        others[self.random.index(others.len())].clone()
    }

    /// Plays the day and goes on to the next.
    pub(super) fn play(&mut self) -> Vec<Draft> {
        let day = self.today;
        if day.number == 0 {
            self.declare_environments();
        }
        self.keep_house(day);
        if !day.is_weekend() {
            self.work(day);
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
            let draft = Draft::new(0, What::Payload(payload)).by(&self.cast.people[0]);
            self.push(draft.because("The ledger begins here."));
        }
    }

    fn keep_house(&mut self, day: Day) {
        if day.number % 14 == 13 {
            let stage = self.random.index(self.infrastructure.len());
            self.infrastructure[stage] += 1;
        }
        if day.begins_freeze() || day.ends_freeze() {
            self.freeze(day);
        }
        if day.tidies_up() {
            self.tidy_up(day);
        }
    }

    fn freeze(&mut self, day: Day) {
        let at = day.begins() + HOUR;
        let production = || catalogue::environment_name(Stage::Production.name());
        let name = |year| catalogue::line(&format!("year-end-{year}"));
        if day.begins_freeze() {
            let person = self.person();
            let good = What::KnownGood { environment: production(), name: name(day.year()) };
            let reason = "What the holidays begin with, should anything have to be undone.";
            self.push(Draft::new(at, good).by(&person).because(reason));
            // It does not end by itself: whoever plays the demo later could not lift it any more.
            let freeze = Freeze { environment: production(), freeze_id: name(day.year()), until: None };
            let started = Draft::new(at + MINUTE, What::Payload(Payload::FreezeStarted(freeze))).by(&person);
            self.push(started.because("Nobody is there to help."));
        } else if day.number > 0 {
            let person = self.person();
            let freeze = Freeze { environment: production(), freeze_id: name(day.year() - 1), until: None };
            self.did(at, Payload::FreezeLifted(freeze), &person);
        }
    }

    /// Takes one service out of dev; its next version brings it back.
    fn tidy_up(&mut self, day: Day) {
        let index = self.random.index(self.products.len());
        let deployment = Some(self.run());
        let site = &mut self.products[index].dev;
        if site.live().is_some() {
            site.clear();
            let lane = site.lane.clone();
            let removal = Removal { lane, slot: None, deployment, rollback_id: None };
            let draft = Draft::new(day.begins() + HOUR, What::Payload(Payload::DeployRemoved(removal)));
            self.push(draft.by(&self.cast.deployer).because("Unused for a while."));
        }
    }

    fn work(&mut self, day: Day) {
        let mut indices: Vec<usize> = (0..self.products.len()).collect();
        for _ in 0..self.random.within(&(2..=5)) {
            // Services that do not run yet come first, one a time.
            let new = indices.iter().position(|index| self.products[*index].versions == 0);
            let chosen = new.unwrap_or_else(|| self.random.index(indices.len()));
            let begin = day.begins() + self.random.within(&(5 * MINUTE..=4 * HOUR));
            self.promote(indices.swap_remove(chosen), begin);
        }
    }
}
