//! What the demo is about: a shop's services, where they run, and who works on them.

use std::fmt::Write as _;

use ledger_domain::event::{Actor, Enforcement, Policy, Promotion, PromotionTargets};
use ledger_domain::{ConfigDigest, EnvironmentName, LongText, ServiceName, ShortText, SlotName, TargetName};
use sha2::{Digest, Sha256};

pub(super) const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "production"];
/// A lane's slots, where it has slots.
pub(super) const SLOTS: [&str; 2] = ["blue", "green"];

const BOTH: &[&str] = &["eu-west-1", "eu-central-1"];
const ONE: &[&str] = &["eu-west-1"];

pub(super) struct Entry {
    pub(super) service: &'static str,
    /// Where it runs in production.
    pub(super) targets: &'static [&'static str],
    /// Whether production cuts over between slots.
    pub(super) slots: bool,
    /// Whether a person must allow what goes to production.
    pub(super) approval: bool,
}

const fn entry(
    service: &'static str,
    targets: &'static [&'static str],
    slots: bool,
    approval: bool,
) -> Entry {
    Entry { service, targets, slots, approval }
}

pub(super) const SERVICES: [Entry; 12] = [
    entry("web-frontend", BOTH, true, false),
    entry("checkout", BOTH, true, true),
    entry("search-api", BOTH, true, false),
    entry("catalogue", BOTH, false, false),
    entry("pricing", BOTH, false, false),
    entry("identity", BOTH, false, true),
    entry("payments", ONE, true, true),
    entry("basket", ONE, true, false),
    entry("inventory", ONE, false, false),
    entry("notifications", ONE, false, false),
    entry("recommendations", ONE, false, false),
    entry("reporting", ONE, false, false),
];

/// Who does things in the demo.
pub(super) struct Cast {
    pub(super) builder: Actor,
    pub(super) deployer: Actor,
    pub(super) checker: Actor,
    pub(super) controller: Actor,
    pub(super) people: Vec<Actor>,
}

impl Cast {
    pub(super) fn new() -> Self {
        let workload = |name| Actor { kind: line("workload"), name: line(name) };
        let person = |name| Actor { kind: line("person"), name: line(name) };
        Self {
            builder: workload("ci"),
            deployer: workload("deployer"),
            checker: workload("checks"),
            controller: workload("rollback-controller"),
            people: ["ada", "barbara", "edsger", "grace", "leslie", "tony"].map(person).into(),
        }
    }
}

pub(super) fn policy(environment: &str) -> Policy {
    let lines = |texts: &[&str]| texts.iter().map(|text| line(text)).collect();
    match environment {
        "dev" => Policy { barrier: Enforcement::Warn, ..Policy::default() },
        "staging" => Policy {
            required_validations: lines(&["e2e"]),
            promotion: Some(Promotion {
                from: vec![environment_name("dev")],
                targets: PromotionTargets::All,
            }),
            ..Policy::default()
        },
        _ => Policy {
            required_validations: lines(&["scan", "smoke"]),
            soak_seconds: 600,
            // The ledger's own controller would answer the history's failed checks, months later.
            automatic_rollback: None,
            promotion: Some(Promotion {
                from: vec![environment_name("staging")],
                targets: PromotionTargets::All,
            }),
            approvals: 0,
            target_order: BOTH.iter().map(|target| target_name(target)).collect(),
            dependencies: [
                (service_name("checkout"), vec![service_name("payments"), service_name("basket")]),
                (service_name("web-frontend"), vec![service_name("search-api")]),
            ]
            .into(),
            barrier: Enforcement::Block,
            freeze: Enforcement::Warn,
        },
    }
}

/// The digits of SHA-256 over a text: what stands for commits and digests here.
pub(super) fn digits(text: &str) -> String {
    let hash = Sha256::digest(text);
    hash.iter().fold(String::with_capacity(64), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

pub(super) fn commit(text: &str) -> ShortText {
    line(&digits(text)[..40])
}

const WELL_FORMED: &str = "the demo's own words are well-formed: its tests read every one of them";

macro_rules! words {
    ($($function:ident = $kind:ident;)+) => {$(
        /// A word of the demo's own.
        pub(super) fn $function(text: &str) -> $kind {
            $kind::parse(text).expect(WELL_FORMED)
        }
    )+};
}
words! {
    line = ShortText;
    prose = LongText;
    environment_name = EnvironmentName;
    service_name = ServiceName;
    target_name = TargetName;
    slot_name = SlotName;
    parsed_digest = ConfigDigest;
}

pub(super) fn digest(text: &str) -> ConfigDigest {
    parsed_digest(&format!("sha256:{}", digits(text)))
}
