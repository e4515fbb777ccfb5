//! The rules of the gate, and their findings.

use crate::{Position, TargetName};

/// A rule of the gate. Findings are listed in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Rejects deploys to an environment that was retired and not declared again.
    Retired,
    /// Rejects deploys while the environment is frozen.
    Freeze,
    /// Rejects deploys that are not steps of the rollback under way.
    Rollback,
    /// Rejects revoked artifacts.
    Revoked,
    /// Rejects a release that was rolled back, until another release is deployed or a person approves it.
    Held,
    /// Requires that the release was known good in the environments that the policy names.
    Promotion,
    /// Requires the policy's number of approvals by people other than the requester.
    Approvals,
}

impl Rule {
    /// Returns the rule as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Freeze => "freeze",
            Self::Rollback => "rollback",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::Promotion => "promotion",
            Self::Approvals => "approvals",
        }
    }
}

/// The result of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The target to which the finding applies; `None`: every lane of the service.
    pub target: Option<TargetName>,
    /// True if the rule allows the deploy.
    pub passes: bool,
    /// True if evidence that the rule needs is missing. The rule does not pass then.
    pub unknown: bool,
    /// The reason, as text.
    pub detail: String,
    /// The position of the deciding evidence, if there is one.
    pub position: Option<Position>,
    /// The positions of the grants that allow the deploy.
    pub grants: Vec<Position>,
}

impl Finding {
    pub(super) const fn new(rule: Rule, passes: bool, detail: String, position: Option<Position>) -> Self {
        Self { rule, target: None, passes, unknown: false, detail, position, grants: Vec::new() }
    }

    /// Creates a finding that does not pass for lack of evidence.
    pub(super) fn unknown(rule: Rule, detail: String, position: Option<Position>) -> Self {
        Self { unknown: true, ..Self::new(rule, false, detail, position) }
    }

    /// Returns the finding for one target only.
    pub(super) fn at(self, target: &TargetName) -> Self {
        Self { target: Some(target.clone()), ..self }
    }
}
