//! Which crate may use which foreign power: one crate each, so that it can be replaced, and feared, in
//! one place.

use crate::modules::{Module, modules};
use crate::refuse;
use crate::workspace::{Crate, Dependency, Purpose, crates};

/// A foreign power: the packages that bring it, and the one crate that uses it.
struct Power {
    packages: &'static [&'static str],
    owner: &'static str,
}

const POWERS: &[Power] = &[
    Power { packages: &["async-nats", "nats"], owner: "journal" },
    Power { packages: &["object_store", "aws-sdk-s3", "rust-s3", "opendal"], owner: "archive" },
    Power {
        packages: &["sqlx", "sqlx-postgres", "tokio-postgres", "postgres", "diesel"],
        owner: "projections",
    },
    Power { packages: &["axum", "axum-extra", "utoipa-axum", "hyper", "tower-http"], owner: "api" },
    Power { packages: &["rdkafka", "rdkafka-sys"], owner: "kafka" },
];

/// Who may use what although another crate owns it, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("server", "axum", "it binds the address and serves the router that api made, in the order of shutdown"),
    (
        "devstack",
        "sqlx",
        "it creates the database in its private Postgres before there is one to open projections in",
    ),
];

/// What pure crates do without.
const BANNED: &[(&str, &[&str])] = &[
    ("domain", &["tokio", "serde", "serde_json", "futures", "tracing"]),
    ("tlog", &["tokio", "serde_json", "futures", "tracing"]),
    ("codec", &["tokio", "futures", "tracing"]),
];

/// The crate of the harness takes everything apart, and so may use everything.
const HARNESS: &str = "tests";

/// What the crate uses outside of its tests.
fn used(found: &Crate) -> impl Iterator<Item = &Dependency> {
    found.dependencies.iter().filter(|dependency| dependency.purpose != Purpose::Tests)
}

#[test]
fn a_foreign_power_is_used_by_one_crate() {
    let mut wrong = Vec::new();
    let mut excused = Vec::new();
    for found in crates().iter().filter(|found| found.name != HARNESS) {
        for Dependency { name, .. } in used(found) {
            let owned = POWERS.iter().find(|power| power.packages.contains(&&**name));
            let Some(power) = owned.filter(|power| power.owner != found.name) else { continue };
            match EXCEPTIONS.iter().position(|(who, what, _)| *who == found.name && what == name) {
                Some(exception) => excused.push(exception),
                None => {
                    wrong
                        .push(format!("{} depends on {name}, which is for {} only", found.name, power.owner));
                }
            }
        }
    }
    refuse(
        &wrong,
        "Ask the owner for what you need, as a function in our words; a test's need is a dev-dependency.",
    );

    let stale = EXCEPTIONS.iter().enumerate().filter(|(index, _)| !excused.contains(index));
    let stale: Vec<_> = stale.map(|(_, (who, what, _))| format!("{who} does without {what}")).collect();
    refuse(&stale, "Remove the exception from tests/tidy/powers.rs: nobody needs it any more.");
}

#[test]
fn pure_crates_stay_pure() {
    let crates = crates();
    let mut wrong = Vec::new();
    for (name, banned) in BANNED {
        let found = crates.iter().find(|found| found.name == *name).expect("the pure crates are members");
        let broken = used(found).filter(|dependency| banned.contains(&&*dependency.name));
        wrong.extend(broken.map(|dependency| format!("{name} depends on {}", dependency.name)));
    }
    refuse(
        &wrong,
        "Pure crates know no runtime and no stored form: do it in journal, ingest or projections.",
    );
}

/// A dependency that only tests use, or nobody, would be an arrow that lies.
#[test]
fn every_dependency_is_used_by_more_than_tests() {
    let mut wrong = Vec::new();
    for found in crates() {
        let code: Vec<_> = modules(&found).into_iter().filter(|module| !module.is_test).collect();
        let is_used =
            |dependency: &&Dependency| code.iter().any(|module| names(module, &dependency.rust_name));
        let normal = found.dependencies.iter().filter(|dependency| dependency.purpose == Purpose::Normal);
        let unused = normal.filter(|dependency| !is_used(dependency));
        wrong.extend(unused.map(|dependency| format!("{}: {}", found.name, dependency.name)));
    }
    refuse(&wrong, "Move the dependency to [dev-dependencies], or remove it: no code but tests names it.");
}

/// Whether the module's code, without its comments and its tests, has this word.
fn names(module: &Module, word: &str) -> bool {
    let is_part = |character: char| character == '_' || character.is_alphanumeric();
    let lines = module.code().lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split(|character| !is_part(character))).any(|found| found == word)
}
