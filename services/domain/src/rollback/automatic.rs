//! Automatic rollback: which lanes a failed check concerns, which point the controller takes, and why it declines.
//!
//! All of it is bounded: by scope, by steps, by age, and by what the ledger shows. A rollback that the evidence does not carry is
//! declined with the reason.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{AutomaticRollback, AutomaticScope, Plan, Policy, ValidationSubject};
use crate::plan_issue::{PlanIssue, Severity};
use crate::{LaneFilter, Lanes, Position, Release, ServiceName, ShortText, TargetName};

/// An environment's earlier automatic rollbacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutomaticPast {
    /// When each of the last day's was recorded.
    pub requested_at: Vec<DateTime<Utc>>,
    /// When the last one was recorded, at any time.
    pub last_requested_at: Option<DateTime<Utc>>,
    /// The last that ended, if it failed, and the position of its end. A later policy clears it.
    pub failed: Option<(ShortText, Position)>,
}

/// Reason why the controller requests no rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclineReason {
    /// What was checked does not run there, was checked again since, or changed while it was checked.
    NotRunning,
    /// Another rollback is under way.
    UnderWay(ShortText),
    /// The last one that it requested failed: it is switched off until the policy is declared again.
    SwitchedOff {
        /// The rollback that failed.
        rollback_id: ShortText,
        /// The position of its end.
        position: Position,
    },
    /// The cool-down after the last one has not passed.
    CoolDown {
        /// When it has.
        until: DateTime<Utc>,
    },
    /// There were as many in a day as the policy allows.
    TooMany {
        /// How many it allows.
        at_most: u32,
    },
    /// The environment's policy does not ask for it any more.
    NotWanted,
    /// No known-good point can be carried out.
    NoKnownGoodPoint(Vec<PassedOver>),
    /// The lanes concerned already run what they ran at the point.
    NothingToDo,
    /// The plan has more steps than the policy allows.
    TooManySteps {
        /// The steps of the plan.
        steps: usize,
        /// How many the policy allows.
        at_most: u32,
    },
    /// The point last stood longer ago than the policy allows.
    TooOld {
        /// The seconds since then.
        age_seconds: u64,
        /// The seconds that the policy allows.
        at_most: u64,
        /// Newer points that cannot be carried out.
        passed_over: Vec<PassedOver>,
    },
    /// The environment would run nothing.
    ResultEmpty,
    /// Something else stands in the way of the plan.
    Blocked(String),
}

/// A known-good point that the controller did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The point.
    pub position: Position,
    /// Why it cannot be carried out.
    pub reason: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}", self.position, self.reason)
    }
}

/// Passed over points in parentheses, with a space before; nothing where there are none.
struct Named<'a>(&'a [PassedOver]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        if self.0.is_empty() {
            return Ok(());
        }
        let shown: Vec<_> = self.0.iter().take(SHOWN).map(ToString::to_string).collect();
        write!(f, " (passed over: {}", shown.join("; "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => f.write_str(")"),
            more => write!(f, "; and {more} more)"),
        }
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str(
                "what was checked does not run there, was checked again since, or changed while it was checked",
            ),
            Self::UnderWay(rollback) => write!(f, "rollback {rollback} is under way"),
            Self::SwitchedOff { rollback_id, position } => write!(
                f,
                "automatic rollback is switched off, since rollback {rollback_id} failed (position {position}); declare the environment's policy again to switch it on"
            ),
            Self::CoolDown { until } => {
                let until = until.to_rfc3339();
                write!(f, "the last automatic rollback was too short a time ago: none before {until}")
            }
            Self::TooMany { at_most } => {
                write!(f, "there were {at_most} automatic rollbacks within a day, which is the most")
            }
            Self::NotWanted => {
                f.write_str("the environment's policy does not ask for automatic rollback any more")
            }
            Self::NoKnownGoodPoint(passed_over) => {
                write!(f, "there is no known-good point to go back to that is young enough{}", Named(passed_over))
            }
            Self::NothingToDo => {
                f.write_str("the lanes concerned already run what they ran at the last known-good point")
            }
            Self::TooManySteps { steps, at_most } => {
                write!(f, "the plan has {steps} steps, and the policy allows {at_most}")
            }
            Self::TooOld { age_seconds, at_most, passed_over } => write!(
                f,
                "the last known-good point last stood {age_seconds} seconds ago, and the policy allows {at_most}{}",
                Named(passed_over)
            ),
            Self::ResultEmpty => f.write_str("the environment would run nothing"),
            Self::Blocked(reason) => write!(f, "the plan is blocked: {reason}"),
        }
    }
}

/// Decides whether the controller may request a rollback now, as far as its own past goes.
///
/// # Errors
/// It may not.
pub fn check_limits(
    rule: &AutomaticRollback,
    past: &AutomaticPast,
    now: DateTime<Utc>,
) -> Result<(), DeclineReason> {
    if let Some((rollback_id, position)) = &past.failed {
        return Err(DeclineReason::SwitchedOff { rollback_id: rollback_id.clone(), position: *position });
    }
    // Clamped to 100 years, so that the addition cannot overflow.
    let cool_down = TimeDelta::seconds(rule.cool_down_seconds.min(100 * 366 * 86_400).cast_signed());
    if let Some(until) = past.last_requested_at.map(|last| last + cool_down)
        && now < until
    {
        return Err(DeclineReason::CoolDown { until });
    }
    let day = now - TimeDelta::days(1);
    let today = past.requested_at.iter().filter(|at| **at > day).count();
    if today >= rule.at_most_a_day as usize {
        return Err(DeclineReason::TooMany { at_most: rule.at_most_a_day });
    }
    Ok(())
}

impl AutomaticRollback {
    /// Returns true if the failure of a check may lead to a rollback, where these checks are required.
    #[must_use]
    pub fn is_triggered_by(&self, check: &ShortText, required: &[ShortText]) -> bool {
        if self.checks.is_empty() { required.contains(check) } else { self.checks.contains(check) }
    }
}

/// Returns the lanes that an automatic rollback may change after a failed check of `subject`; `None` if it concerns none.
///
/// For [`AutomaticScope::Service`]: the service that was checked and those that depend on it, at the target that the check names,
/// or at those at which the release runs; of an artifact, the services that run it and those that depend on them, at the targets at
/// which it runs; of the whole environment, all lanes.
#[must_use]
pub fn concerned_lanes(
    scope: AutomaticScope,
    subject: &ValidationSubject,
    policy: &Policy,
    present: &Lanes,
) -> Option<LaneFilter> {
    let running =
        present.iter().filter_map(|((service, target), fold)| Some((service, target, fold.live()?.release)));
    let running: Vec<(&ServiceName, &TargetName, &Release)> = running.collect();
    let (services, targets) = match (scope, subject) {
        (AutomaticScope::Environment, _) | (_, ValidationSubject::Environment(_)) => {
            return Some(LaneFilter::default());
        }
        (_, ValidationSubject::Lane { lane, release, .. }) => {
            let is_meant =
                |running: &Release| release.as_ref().is_none_or(|stated| !stated.contradicts(running));
            let targets = match &lane.target {
                Some(target) => BTreeSet::from([target.clone()]),
                None => {
                    targets_of(&running, |service, running| *service == lane.service && is_meant(running))
                }
            };
            (vec![lane.service.clone()], targets)
        }
        (_, ValidationSubject::Artifact(artifact)) => {
            let runs = |release: &Release| release.artifact.as_ref().is_some_and(|it| it.is_same(artifact));
            let services = running.iter().filter(|(_, _, release)| runs(release));
            let services = services.map(|(service, ..)| (*service).clone()).collect();
            (services, targets_of(&running, |_, release| runs(release)))
        }
    };
    // A scope that names no service would mean all of them.
    let services = Some(policy.with_dependents(services)).filter(|services| !services.is_empty())?;
    Some(LaneFilter { services, targets })
}

/// Returns the targets at which some service runs such a release; empty, which means all, where every target of those services does.
fn targets_of(
    running: &[(&ServiceName, &TargetName, &Release)],
    is_such: impl Fn(&ServiceName, &Release) -> bool,
) -> BTreeSet<TargetName> {
    let such = || running.iter().filter(|(service, _, release)| is_such(service, release));
    let services: BTreeSet<_> = such().map(|(service, ..)| service).collect();
    let elsewhere = running.iter().filter(|(service, ..)| services.contains(service));
    if elsewhere.clone().all(|(service, _, release)| is_such(service, release)) {
        return BTreeSet::new();
    }
    such().map(|(_, target, _)| (*target).clone()).collect()
}

/// Decides whether a plan is within the policy's bounds: its steps, and the time since its point last stood.
///
/// # Errors
/// It is not.
pub fn check_bounds(rule: &AutomaticRollback, steps: usize, age: TimeDelta) -> Result<(), DeclineReason> {
    let age_seconds = u64::try_from(age.num_seconds()).unwrap_or(0);
    let at_most = rule.at_most_age_seconds;
    if age_seconds > at_most {
        return Err(DeclineReason::TooOld { age_seconds, at_most, passed_over: Vec::new() });
    }
    match rule.at_most_steps {
        at_most if steps > at_most as usize => Err(DeclineReason::TooManySteps { steps, at_most }),
        _ => Ok(()),
    }
}

/// A known-good point, with the plan of the lanes concerned to it.
#[derive(Debug, Clone, Copy)]
pub struct KnownGoodPoint<'a> {
    /// The point.
    pub position: Position,
    /// When it last stood; now, if it stands.
    pub last_stood_at: DateTime<Utc>,
    /// The plan to it, which removes only what the point shows removed.
    pub plan: &'a Plan,
    /// What the plan meets.
    pub issues: &'a [(PlanIssue, Severity)],
}

/// A search through the known-good points, newest first, for the one that the controller takes.
#[derive(Debug, Clone)]
pub struct PointSearch<'a> {
    rule: &'a AutomaticRollback,
    present: &'a Lanes,
    now: DateTime<Utc>,
    passed_over: Vec<PassedOver>,
}

/// The result of considering a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The rollback to this point is requested.
    Take,
    /// The point is passed over: consider the next one.
    PassOver,
}

impl<'a> PointSearch<'a> {
    /// Begins a search.
    #[must_use]
    pub const fn new(rule: &'a AutomaticRollback, present: &'a Lanes, now: DateTime<Utc>) -> Self {
        Self { rule, present, now, passed_over: Vec::new() }
    }

    /// Considers the next known-good point. One that a revoked artifact or a barrier blocks is passed over.
    ///
    /// # Errors
    /// The point is out of bounds, leads nowhere, or is blocked by something that does not depend on the point: no older
    /// point is taken instead.
    pub fn consider(&mut self, point: &KnownGoodPoint<'_>) -> Result<Search, DeclineReason> {
        let age = self.now - point.last_stood_at;
        if let Err(DeclineReason::TooOld { age_seconds, at_most, .. }) = check_bounds(self.rule, 0, age) {
            let passed_over = std::mem::take(&mut self.passed_over);
            return Err(DeclineReason::TooOld { age_seconds, at_most, passed_over });
        }
        let stops = |of_point: bool| {
            let blocking = point.issues.iter().filter(|(_, severity)| !severity.lets_pass(false));
            let blocking = blocking.filter(|(issue, _)| is_of_point(issue) == of_point);
            let reasons: Vec<_> = blocking.map(|(issue, _)| issue.to_string()).collect();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        if let Some(reason) = stops(true) {
            self.passed_over.push(PassedOver { position: point.position, reason });
            return Ok(Search::PassOver);
        }
        if point.plan.steps.is_empty() {
            return Err(DeclineReason::NothingToDo);
        }
        if point.plan.leaves_nothing(self.present) {
            return Err(DeclineReason::ResultEmpty);
        }
        check_bounds(self.rule, point.plan.steps.len(), age)?;
        stops(false).map_or(Ok(Search::Take), |reason| Err(DeclineReason::Blocked(reason)))
    }

    /// Returns the points that were passed over.
    #[must_use]
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// Ends a search for which there are no more points.
    #[must_use]
    pub fn exhausted(self) -> DeclineReason {
        DeclineReason::NoKnownGoodPoint(self.passed_over)
    }
}

/// Obstacles that an older point may not have.
const fn is_of_point(issue: &PlanIssue) -> bool {
    matches!(issue, PlanIssue::ArtifactRevoked { .. } | PlanIssue::Barrier(_))
}
