//! Constants of the demo: services, environments, policies and actors.

use ledger_domain::event::{Actor, Enforcement, Policy, Promotion, PromotionTargets};
use ledger_domain::{ConfigDigest, EnvironmentName, LongText, ServiceName, ShortText, SlotName, TargetName};
use sha2::{Digest, Sha256};

pub(super) const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "production"];
/// The slots of a lane that has slots.
pub(super) const SLOTS: [&str; 2] = ["blue", "green"];

const BOTH_TARGETS: &[&str] = &["eu-west-1", "eu-central-1"];
const ONE_TARGET: &[&str] = &["eu-west-1"];

pub(super) struct Entry {
    pub(super) service: &'static str,
    /// The targets in production.
    pub(super) targets: &'static [&'static str],
    /// True if production switches between slots.
    pub(super) slots: bool,
    /// True if a person must approve deploys to production.
    pub(super) needs_approval: bool,
}

const fn entry(
    service: &'static str,
    targets: &'static [&'static str],
    slots: bool,
    needs_approval: bool,
) -> Entry {
    Entry { service, targets, slots, needs_approval }
}

pub(super) const SERVICES: [Entry; 12] = [
    entry("web-frontend", BOTH_TARGETS, true, false),
    entry("checkout", BOTH_TARGETS, true, true),
    entry("search-api", BOTH_TARGETS, true, false),
    entry("catalogue", BOTH_TARGETS, false, false),
    entry("pricing", BOTH_TARGETS, false, false),
    entry("identity", BOTH_TARGETS, false, true),
    entry("payments", ONE_TARGET, true, true),
    entry("basket", ONE_TARGET, true, false),
    entry("inventory", ONE_TARGET, false, false),
    entry("notifications", ONE_TARGET, false, false),
    entry("recommendations", ONE_TARGET, false, false),
    entry("reporting", ONE_TARGET, false, false),
];

/// The actors of the demo.
pub(super) struct Actors {
    pub(super) builder: Actor,
    pub(super) deployer: Actor,
    pub(super) checker: Actor,
    pub(super) controller: Actor,
    pub(super) people: Vec<Actor>,
}

impl Actors {
    pub(super) fn new() -> Self {
        let workload = |name| Actor { kind: short_text("workload"), name: short_text(name) };
        let person = |name| Actor { kind: short_text("person"), name: short_text(name) };
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
    let short_texts = |texts: &[&str]| texts.iter().map(|text| short_text(text)).collect();
    match environment {
        "dev" => Policy { barrier: Enforcement::Warn, ..Policy::default() },
        "staging" => Policy {
            required_validations: short_texts(&["e2e"]),
            promotion: Some(Promotion {
                from: vec![environment_name("dev")],
                targets: PromotionTargets::All,
            }),
            ..Policy::default()
        },
        _ => Policy {
            required_validations: short_texts(&["scan", "smoke"]),
            soak_seconds: 600,
            // Otherwise the ledger's own controller would react to the failed checks of the history, months
            // later.
            automatic_rollback: None,
            promotion: Some(Promotion {
                from: vec![environment_name("staging")],
                targets: PromotionTargets::All,
            }),
            approvals: 0,
            target_order: BOTH_TARGETS.iter().map(|target| target_name(target)).collect(),
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

/// Returns the SHA-256 digest of a text in hex; stands for commits and digests in the demo.
pub(super) fn hex_digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

pub(super) fn commit(text: &str) -> ShortText {
    short_text(&hex_digest(text)[..40])
}

const VALID_TEXT: &str = "texts of the demo are valid: its tests parse all of them";

macro_rules! parsers {
    ($($function:ident = $kind:ident;)+) => {$(
        /// Parses a text of the demo.
        pub(super) fn $function(text: &str) -> $kind {
            $kind::parse(text).expect(VALID_TEXT)
        }
    )+};
}
parsers! {
    short_text = ShortText;
    long_text = LongText;
    environment_name = EnvironmentName;
    service_name = ServiceName;
    target_name = TargetName;
    slot_name = SlotName;
    parsed_digest = ConfigDigest;
}

pub(super) fn digest(text: &str) -> ConfigDigest {
    parsed_digest(&format!("sha256:{}", hex_digest(text)))
}
