//! Policies: the rules of an environment for deploys, rollbacks and promotion.

use std::collections::BTreeMap;

use crate::{EnvironmentName, ServiceName, ShortText, TargetName};

/// The rules of an environment. The default (everything empty) applies to an environment that was never declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Checks that must pass before a point is known good. If empty, any one passed check is enough.
    pub required_validations: Vec<ShortText>,
    /// Soak time in seconds: how long a composition must run before its point is known good.
    pub soak_seconds: u64,
    /// Conditions for automatic rollback; `None`: the environment does not roll back automatically.
    pub automatic_rollback: Option<AutomaticRollback>,
    /// Conditions for the promotion of an artifact to this environment.
    pub promotion: Option<Promotion>,
    /// Number of people other than the requester who must approve a rollback or a deploy.
    pub approvals: u32,
    /// The order in which a plan changes targets.
    pub target_order: Vec<TargetName>,
    /// The services that each service depends on. A plan changes them before it.
    pub dependencies: BTreeMap<ServiceName, Vec<ServiceName>>,
    /// Effect of a barrier (an irreversible deploy since the point began) on a rollback.
    pub barrier: Enforcement,
    /// Effect of a freeze on a rollback. The gate always denies deploys during a freeze.
    pub freeze: Enforcement,
}

impl Policy {
    /// Maximum number of names in `required_validations`, in the `checks` of automatic rollback and in the environments
    /// of a promotion. Each is looked up for every lane. Older policies may have more.
    pub const MAX_NAMES: usize = 64;
}

/// The conditions and limits of automatic rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomaticRollback {
    /// The checks that trigger a rollback by failing. If empty, every required check does.
    pub checks: Vec<ShortText>,
    /// Minimum number of seconds between two automatic rollbacks.
    pub cool_down_seconds: u64,
    /// Maximum number of automatic rollbacks within 24 hours.
    pub at_most_a_day: u32,
    /// The lanes that a rollback may change.
    pub scope: AutomaticScope,
    /// Maximum number of steps of a plan.
    pub at_most_steps: u32,
    /// Maximum number of seconds since the point last ran.
    pub at_most_age_seconds: u64,
}

impl AutomaticRollback {
    /// Default of `at_most_steps`.
    pub const DEFAULT_AT_MOST_STEPS: u32 = 10;
    /// Default of `at_most_age_seconds`: seven days.
    pub const DEFAULT_AT_MOST_AGE_SECONDS: u64 = 7 * 86_400;
}

/// The lanes that an automatic rollback may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutomaticScope {
    /// The lanes of the failed check's subject, and of the services that depend on it according to the policy.
    #[default]
    Service,
    /// All lanes of the environment.
    Environment,
}

/// Environments in which an artifact must be known good before its promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The environments.
    pub from: Vec<EnvironmentName>,
    /// Targets of those environments, among the ones where it ran, at which it must be known good.
    pub targets: PromotionTargets,
}

/// The targets, among those where a release ran, at which it must be known good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromotionTargets {
    /// At every target.
    #[default]
    All,
    /// At one target at least.
    Any,
}

/// The effect of a barrier or a freeze on a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// The plan is blocked unless it is forced, with a reason.
    #[default]
    Block,
    /// The plan carries a warning.
    Warn,
}
