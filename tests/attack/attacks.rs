//! The list of attacks.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::target::{AUTHENTICATION, Scale, Target};
use crate::watch::{Watch, Watched};
use crate::{answers, bodies, connections, crowd, flood, followers, questions};

/// Outcome of an attack: a figure, or how it succeeded.
pub(crate) type Outcome = Result<String, String>;

/// An attack on a service.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Effect of the attack before there was a defence.
    pub(crate) before: &'static str,
    /// Flags of the service.
    flags: &'static [&'static str],
    /// False if other clients would disturb what the attack measures.
    is_watched: bool,
    attack: for<'t> fn(&'t Target) -> BoxFuture<'t, Outcome>,
}

/// Result of an attack.
pub(crate) struct AttackResult {
    pub(crate) outcome: Outcome,
    /// Effects on other clients during the attack; `None` if they would have disturbed the attack.
    pub(crate) watched: Option<Watched>,
}

impl AttackResult {
    /// Returns the effects on other clients, as a text.
    pub(crate) fn others(&self) -> String {
        self.watched.as_ref().map_or_else(|| "not watched".to_owned(), ToString::to_string)
    }
}

impl Attack {
    /// Runs the attack against a service of its own.
    pub(crate) async fn run(&self, scale: &Scale) -> AttackResult {
        let target = Target::start(scale, self.flags).await;
        let watch = self.is_watched.then(|| Watch::start(&target));
        let outcome = (self.attack)(&target).await;
        let watched = match watch {
            Some(watch) => Some(watch.end().await),
            None => None,
        };
        AttackResult { outcome, watched }
    }
}

/// All attacks.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "searches-without-a-result",
        before: "1,000,000 releases: a search took 42 to 57 s, reports waited 9.9 s of every 15 s, no check was answered",
        flags: &[],
        is_watched: true,
        attack: |target| questions::searches_without_a_result(target).boxed(),
    },
    Attack {
        name: "searches-in-many-environments",
        before: "checks of other environments behind such a search were never answered",
        flags: &[],
        is_watched: true,
        attack: |target| questions::searches_in_many_environments(target).boxed(),
    },
    Attack {
        name: "a-body-of-requests",
        before: "200 rollback requests in one body: another client's event waited more than 50 s",
        flags: &[],
        is_watched: true,
        attack: |target| questions::a_body_of_requests(target).boxed(),
    },
    Attack {
        name: "a-body-of-freezes",
        before: "10,000 freeze.lifted in one body: other clients' events waited 3.9 s in the median",
        flags: &[],
        is_watched: true,
        attack: |target| questions::a_body_of_freezes(target).boxed(),
    },
    Attack {
        name: "readers-that-take-all-connections",
        before: "20 slow queries: freezes got 503, and an old duplicate was recorded a second time",
        flags: &[],
        is_watched: true,
        attack: |target| questions::readers_that_take_all_connections(target).boxed(),
    },
    Attack {
        name: "many-environments-in-the-metrics",
        before: "8,601 of 100,000 environments had metrics of drift, and nothing told that others had none",
        flags: &[],
        is_watched: true,
        attack: |target| questions::many_environments_in_the_metrics(target).boxed(),
    },
    Attack {
        name: "answers-that-are-not-read",
        before: "40 clients, 4 MB sent: 1.13 GB, held as long as they liked",
        flags: &[],
        is_watched: true,
        attack: |target| connections::answers_that_are_not_read(target).boxed(),
    },
    Attack {
        name: "bodies-that-drip",
        before: "60 batches: 960 MB, none had ended after 60 s",
        flags: &["--http-read-timeout-seconds=5"],
        is_watched: true,
        attack: |target| connections::bodies_that_drip(target).boxed(),
    },
    Attack {
        name: "idle-connections",
        before: "1,100 idle sockets: new clients timed out for up to 30 s, and connections to Postgres failed",
        flags: &[],
        is_watched: true,
        attack: |target| connections::idle_connections(target).boxed(),
    },
    Attack {
        name: "lines-that-wait",
        before: "up to 499 events of 64 KiB of each body waited for the rest of their group, beyond every bound",
        flags: &[],
        is_watched: true,
        attack: |target| bodies::lines_that_wait(target).boxed(),
    },
    Attack {
        name: "bodies-of-large-events",
        before: "other clients' events waited behind up to 32 MB of each such body",
        flags: &[],
        is_watched: true,
        attack: |target| bodies::bodies_of_large_events(target).boxed(),
    },
    Attack {
        name: "names-that-no-path-can-hold",
        before: "a rollback named `stream` could neither be shown nor cancelled, and no other could be requested",
        flags: &[],
        is_watched: true,
        attack: |target| bodies::names_that_no_path_can_hold(target).boxed(),
    },
    Attack {
        name: "a-policy-of-many-checks",
        before: "11,500 checks and 100 services: one point took 150 MB, 20 took more than 7 GB, /livez waited 53 s",
        flags: &[],
        is_watched: true,
        attack: |target| answers::a_policy_of_many_checks(target).boxed(),
    },
    Attack {
        name: "an-environment-of-many-services",
        before: "100,000 services: 100 points took 26 s, a dry run more than 120 s, /livez waited 37 s",
        flags: &[],
        is_watched: true,
        attack: |target| answers::an_environment_of_many_services(target).boxed(),
    },
    Attack {
        name: "followers",
        before: "300 idle followers took 39 % of a core; with 100, single events fell from 193/s to 48/s",
        flags: &[],
        is_watched: false,
        attack: |target| followers::followers(target).boxed(),
    },
    Attack {
        name: "idle-and-dripping-connections",
        before: "never tried: above 2,048 connections, the service closes the one that has been idle longest",
        // The service holds all of them, if it may open as many files.
        flags: &["--http-max-connections=12000"],
        is_watched: true,
        attack: |target| crowd::idle_and_dripping_connections(target).boxed(),
    },
    Attack {
        name: "a-flood-by-one-principal",
        before: "never tried: requests had no sender, and nothing limited one client",
        flags: &[AUTHENTICATION],
        is_watched: true,
        attack: |target| flood::flood_by_one_principal(target).boxed(),
    },
];
