//! What an environment asks of those who release to it.

use std::collections::BTreeMap;

use crate::{EnvironmentName, ServiceName, ShortText, TargetName};

/// An environment's rules. All empty is the policy of an environment that was never declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Checks that must have passed before a point is known good. Where there are none, one that passed
    /// is enough.
    pub required_validations: Vec<ShortText>,
    /// Seconds that a point's composition must have stood before it is known good.
    pub soak_seconds: u64,
    /// Whether and when the environment rolls back by itself.
    pub automatic_rollback: Option<AutomaticRollback>,
    /// What an artifact must have passed before it may come here.
    pub promotion: Option<Promotion>,
    /// How many people other than the requester must approve a rollback, or a deploy.
    pub approvals: u32,
    /// The order in which targets are changed.
    pub target_order: Vec<TargetName>,
    /// Which services each service depends on: they are changed before it.
    pub dependencies: BTreeMap<ServiceName, Vec<ServiceName>>,
    /// What an irreversible deploy between here and a point does to a rollback.
    pub barrier: Enforcement,
    /// What a freeze does to a rollback; a deploy never passes the gate in one.
    pub freeze: Enforcement,
}

/// When an environment rolls back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomaticRollback {
    /// The checks whose failure triggers it; if there are none, every required one does.
    pub checks: Vec<ShortText>,
    /// Seconds after one rollback before the next may begin by itself.
    pub cool_down_seconds: u64,
    /// At most this many a day.
    pub at_most_a_day: u32,
    /// Which lanes it may change.
    pub scope: AutomaticScope,
    /// A plan with more steps than this is not requested.
    pub at_most_steps: u32,
    /// A point that has not run for more than this many seconds is not gone back to.
    pub at_most_age_seconds: u64,
}

impl AutomaticRollback {
    /// Steps of a plan at most, where the policy does not say.
    pub const DEFAULT_AT_MOST_STEPS: u32 = 10;
    /// Seconds since a point last ran at most, where the policy does not say: seven days.
    pub const DEFAULT_AT_MOST_AGE_SECONDS: u64 = 7 * 86_400;
}

/// Which lanes an automatic rollback may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutomaticScope {
    /// Those of the failed check's subject, and of the services that depend on it by the policy.
    #[default]
    Service,
    /// All lanes of the environment.
    Environment,
}

/// Environments that an artifact must have been known good in first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Those environments.
    pub from: Vec<EnvironmentName>,
    /// At how many of the targets where it ran there it must have been known good.
    pub targets: PromotionTargets,
}

/// At how many of the targets where a release ran it must have been known good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromotionTargets {
    /// At every one.
    #[default]
    All,
    /// At one of them.
    Any,
}

/// What something in the way does to a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// The plan is blocked unless forced with a reason.
    #[default]
    Block,
    /// The plan carries a warning.
    Warn,
}
