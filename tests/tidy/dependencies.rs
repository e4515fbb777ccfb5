//! Third-party dependencies with one owner: only one crate may use each of them, so that it can be replaced there.

use crate::assert_none;
use crate::modules::{Module, modules};
use crate::tree::root;
use crate::workspace::{Crate, Dependency, Purpose, crates};

/// Packages for one purpose, and the only crate that may use them.
struct Owner {
    packages: &'static [&'static str],
    owner: &'static str,
}

const OWNERS: &[Owner] = &[
    Owner { packages: &["async-nats", "nats"], owner: "journal" },
    Owner { packages: &["gix", "git2"], owner: "gitops" },
    Owner { packages: &["object_store", "aws-sdk-s3", "rust-s3", "opendal"], owner: "archive" },
    Owner {
        packages: &["sqlx", "sqlx-postgres", "tokio-postgres", "postgres", "diesel"],
        owner: "projections",
    },
    Owner { packages: &["axum", "axum-extra", "utoipa-axum", "hyper", "tower-http"], owner: "api" },
    Owner { packages: &["askama", "maud", "minijinja", "tera"], owner: "pages" },
    Owner { packages: &["rdkafka", "rdkafka-sys"], owner: "kafka" },
    Owner { packages: &["tikv-jemallocator", "mimalloc"], owner: "server" },
];

/// Exceptions: crate, package and reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("server", "axum", "it binds the address, and serves the router of api during an orderly shutdown"),
    (
        "devstack",
        "sqlx",
        "it creates the database in its private Postgres, before projections can connect to it",
    ),
];

/// Packages that pure crates must not use.
const BANNED: &[(&str, &[&str])] = &[
    ("domain", &["tokio", "serde", "serde_json", "futures", "tracing"]),
    ("tlog", &["tokio", "serde_json", "futures", "tracing"]),
    ("codec", &["tokio", "futures", "tracing"]),
    ("api-types", &["tokio", "futures", "tracing"]),
    ("pages", &["tokio", "futures", "tracing"]),
];

/// The crate of the tests, which may use everything.
const HARNESS: &str = "tests";

/// Returns the dependencies that a crate uses outside of its tests.
fn used(found: &Crate) -> impl Iterator<Item = &Dependency> {
    found.dependencies.iter().filter(|dependency| dependency.purpose != Purpose::Tests)
}

#[test]
fn an_owned_dependency_is_used_by_its_owner_only() {
    let mut violations = Vec::new();
    let mut used_exceptions = Vec::new();
    for found in crates().iter().filter(|found| found.name != HARNESS) {
        for Dependency { name, .. } in used(found) {
            let owned = OWNERS.iter().find(|owned| owned.packages.contains(&&**name));
            let Some(Owner { owner, .. }) = owned.filter(|owned| owned.owner != found.name) else { continue };
            let is_exception =
                |exception: &(&str, &str, &str)| exception.0 == found.name && exception.1 == name;
            match EXCEPTIONS.iter().position(is_exception) {
                Some(exception) => used_exceptions.push(exception),
                None => {
                    violations.push(format!("{} depends on {name}, which only {owner} may use", found.name));
                }
            }
        }
    }
    assert_none(
        &violations,
        "Add a function in domain terms to the owner, and call that. In tests, use a dev-dependency.",
    );

    let stale = EXCEPTIONS.iter().enumerate().filter(|(index, _)| !used_exceptions.contains(index));
    let stale: Vec<_> =
        stale.map(|(_, (name, package, _))| format!("{name} does not use {package}")).collect();
    assert_none(&stale, "Remove the stale exception from tests/tidy/dependencies.rs.");
}

#[test]
fn pure_crates_use_no_runtime_and_no_stored_form() {
    let crates = crates();
    let mut violations = Vec::new();
    for (name, banned) in BANNED {
        let found = crates.iter().find(|found| found.name == *name).expect("pure crates are members");
        let broken = used(found).filter(|dependency| banned.contains(&&*dependency.name));
        violations.extend(broken.map(|dependency| format!("{name} depends on {}", dependency.name)));
    }
    assert_none(&violations, "Move the code that needs the dependency to journal, ingest or projections.");
}

/// Otherwise the arrows would show a dependency that the code does not have.
#[test]
fn every_dependency_is_used_outside_of_tests() {
    let mut violations = Vec::new();
    for found in crates() {
        let code: Vec<_> = modules(&found).into_iter().filter(|module| !module.is_test).collect();
        let is_used =
            |dependency: &&Dependency| code.iter().any(|module| names(module, &dependency.rust_name));
        let normal = found.dependencies.iter().filter(|dependency| dependency.purpose == Purpose::Normal);
        let unused = normal.filter(|dependency| !is_used(dependency));
        violations.extend(unused.map(|dependency| format!("{}: {}", found.name, dependency.name)));
    }
    assert_none(&violations, "Only tests name the dependency: move it to [dev-dependencies], or remove it.");
}

/// The files of the server that a build without the feature `kafka` leaves out, or of which it compiles another part.
const KAFKA: &[&str] = &["config/kafka.rs", "kafka/enabled.rs"];

/// Such a build has another module in their place, which the tests of the server compile.
#[test]
fn a_build_without_kafka_compiles_no_code_that_names_it() {
    let crates = crates();
    let server = crates.iter().find(|found| found.name == "server").expect("the server is a member");
    let named = modules(server).into_iter().filter(|module| names(module, "ledger_kafka"));
    let named: Vec<_> = named.map(|module| module.path.display().to_string()).collect();
    let violations: Vec<_> =
        named.iter().filter(|path| !KAFKA.iter().any(|known| path.ends_with(known))).cloned().collect();
    assert_none(
        &violations,
        "Call it through services/server/src/kafka.rs, which a build without Kafka replaces.",
    );
    assert_eq!(named.len(), KAFKA.len(), "a file that names Kafka no more: {named:?}");
    let manifest = std::fs::read_to_string(root().join("services/server/Cargo.toml")).expect("a manifest");
    for line in
        ["ledger-kafka = { workspace = true, optional = true }", "kafka = [\"server\", \"dep:ledger-kafka\"]"]
    {
        assert!(
            manifest.lines().any(|found| found == line),
            "services/server/Cargo.toml has the line {line}"
        );
    }
}

/// The modules of the server that a build of the client (`ops/build --client`) compiles.
const CLIENT: &[&str] = &["cli"];

/// Such a build lacks the dependencies of the service. The tests compile none.
#[test]
fn a_build_of_the_client_compiles_no_module_of_the_service() {
    let text = std::fs::read_to_string(root().join("services/server/src/lib.rs")).expect("the server's root");
    let lines: Vec<&str> = text.lines().collect();
    let module = |line: &str| {
        let declared = line.trim_start_matches("pub ").strip_prefix("mod ");
        declared.and_then(|name| name.strip_suffix(';')).map(str::to_owned)
    };
    let modules: Vec<(&str, String)> =
        lines.windows(2).filter_map(|pair| Some((pair[0], module(pair[1])?))).collect();
    let (of_service, others): (Vec<_>, Vec<_>) =
        modules.into_iter().partition(|(above, _)| above.contains("feature = \"server\""));
    assert!(!of_service.is_empty(), "the server has modules of the service");
    let others: Vec<String> = others.into_iter().map(|(_, module)| module).collect();
    assert_eq!(others, CLIENT, "add #[cfg(feature = \"server\")] in services/server/src/lib.rs");
}

/// Returns true if the module's code, without comments and tests, contains the word.
fn names(module: &Module, word: &str) -> bool {
    let is_part = |character: char| character == '_' || character.is_alphanumeric();
    let lines = module.code().lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split(|character| !is_part(character))).any(|found| found == word)
}
