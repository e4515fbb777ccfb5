//! The list of attacks.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::questions;
use crate::target::{Scale, Target};
use crate::watch::{Watch, Watched};

/// What an attack found: a figure, or how it succeeded.
pub(crate) type Outcome = Result<String, String>;

/// An attack on a service.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What it achieved before there was a defence.
    pub(crate) before: &'static str,
    attack: for<'t> fn(&'t Target) -> BoxFuture<'t, Outcome>,
}

/// Result of an attack.
pub(crate) struct AttackResult {
    pub(crate) outcome: Outcome,
    /// What others saw meanwhile.
    pub(crate) watched: Watched,
}

impl Attack {
    /// Runs the attack against a service of its own.
    pub(crate) async fn run(&self, scale: &Scale) -> AttackResult {
        let target = Target::start(scale).await;
        let watch = Watch::start(&target);
        let outcome = (self.attack)(&target).await;
        AttackResult { outcome, watched: watch.end().await }
    }
}

/// All attacks.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "searches-without-a-result",
        before: "1,000,000 releases: a search took 42 to 57 s, reports waited 9.9 s of every 15 s, no check was answered",
        attack: |target| questions::searches_without_a_result(target).boxed(),
    },
    Attack {
        name: "searches-in-many-environments",
        before: "checks of other environments behind such a search were never answered",
        attack: |target| questions::searches_in_many_environments(target).boxed(),
    },
    Attack {
        name: "a-body-of-requests",
        before: "200 rollback requests in one body: another client's event waited more than 50 s",
        attack: |target| questions::a_body_of_requests(target).boxed(),
    },
    Attack {
        name: "a-body-of-freezes",
        before: "10,000 freeze.lifted in one body: other clients' events waited 3.9 s in the median",
        attack: |target| questions::a_body_of_freezes(target).boxed(),
    },
    Attack {
        name: "readers-that-take-all-connections",
        before: "20 slow queries: freezes got 503, and an old duplicate was recorded a second time",
        attack: |target| questions::readers_that_take_all_connections(target).boxed(),
    },
    Attack {
        name: "many-environments-in-the-metrics",
        before: "8,601 of 100,000 environments had metrics of drift, and nothing told that others had none",
        attack: |target| questions::many_environments_in_the_metrics(target).boxed(),
    },
];
