//! Automatic rollback: the lanes that a failed check affects, the point to roll back to, and the reasons to decline.
//!
//! An automatic rollback is bounded by its scope, the number of its steps, the age of its point, and the evidence in
//! the ledger. If the evidence is not sufficient, the controller declines with the reason.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{AutomaticRollback, AutomaticScope, Plan, Policy, Step, ValidationSubject};
use crate::plan_issue::{PlanIssue, Severity};
use crate::{LaneFilter, Lanes, Position, ServiceName, ShortText, TargetName};

/// The earlier automatic rollbacks of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutomaticHistory {
    /// The times at which the requests of the last 24 hours were recorded.
    pub requested_at: Vec<DateTime<Utc>>,
    /// The time at which the last request was recorded, however long ago.
    pub last_requested_at: Option<DateTime<Utc>>,
    /// The last automatic rollback that ended, if it failed, and the position of its end. A later policy clears it.
    pub failed: Option<(ShortText, Position)>,
}

/// Reason why the controller declines to request a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclineReason {
    /// The subject of the check no longer runs, was checked again, or changed during the check.
    NotRunning,
    /// Another rollback is under way.
    UnderWay(ShortText),
    /// The last automatic rollback failed: automatic rollback is switched off until the policy is declared again.
    SwitchedOff {
        /// The rollback that failed.
        rollback_id: ShortText,
        /// The position of its end.
        position: Position,
    },
    /// The cool-down after the last automatic rollback has not passed.
    CoolDown {
        /// End of the cool-down.
        until: DateTime<Utc>,
    },
    /// The number of automatic rollbacks within 24 hours has reached the limit of the policy.
    TooMany {
        /// The limit of the policy.
        at_most: u32,
    },
    /// The environment's policy no longer enables automatic rollback for the check.
    NotWanted,
    /// No known-good point can be rolled back to. Lists the points that were skipped.
    NoKnownGoodPoint(Vec<PassedOver>),
    /// The affected lanes already run the releases of the point.
    NothingToDo,
    /// The plan has more steps than the policy allows.
    TooManySteps {
        /// Number of steps of the plan.
        steps: usize,
        /// Number of steps that the policy allows.
        at_most: u32,
    },
    /// The point last ran longer ago than the policy allows.
    TooOld {
        /// Seconds since the point last ran.
        age_seconds: u64,
        /// Seconds that the policy allows.
        at_most: u64,
        /// Newer points that were skipped.
        passed_over: Vec<PassedOver>,
    },
    /// The plan would change a lane that the failed check does not concern: the services and targets of the concerned
    /// lanes include it.
    OtherLane {
        /// Service of the lane.
        service: ServiceName,
        /// Target of the lane.
        target: TargetName,
    },
    /// The environment would run nothing.
    ResultEmpty,
    /// An issue that does not depend on the point blocks the plan.
    Blocked(String),
    /// The search for a known-good point took longer than this number of seconds.
    SearchTimedOut(u64),
    /// The decision timed out or panicked in every attempt.
    Undecided {
        /// Number of attempts.
        attempts: u32,
    },
}

/// A known-good point that the controller skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The point.
    pub position: Position,
    /// The issues that block the plan to the point.
    pub reason: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}", self.position, self.reason)
    }
}

/// Formats skipped points as a suffix in parentheses; as nothing if there are none.
struct SkippedPoints<'a>(&'a [PassedOver]);

impl fmt::Display for SkippedPoints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_SHOWN: usize = 5;
        if self.0.is_empty() {
            return Ok(());
        }
        let shown: Vec<_> = self.0.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
        write!(f, " (skipped: {}", shown.join("; "))?;
        match self.0.len().saturating_sub(MAX_SHOWN) {
            0 => f.write_str(")"),
            more => write!(f, "; and {more} more)"),
        }
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str(
                "the subject of the check no longer runs, was checked again, or changed during the check",
            ),
            Self::UnderWay(rollback) => write!(f, "rollback {rollback} is under way"),
            Self::SwitchedOff { rollback_id, position } => write!(
                f,
                "automatic rollback is switched off because rollback {rollback_id} failed \
                 (position {position}); declare the environment's policy again to switch it on"
            ),
            Self::CoolDown { until } => {
                let until = until.to_rfc3339();
                write!(f, "the cool-down after the last automatic rollback ends at {until}")
            }
            Self::TooMany { at_most } => {
                write!(f, "the limit of {at_most} automatic rollbacks within 24 hours is reached")
            }
            Self::NotWanted => {
                f.write_str("the environment's policy no longer enables automatic rollback for this check")
            }
            Self::NoKnownGoodPoint(passed_over) => {
                let skipped = SkippedPoints(passed_over);
                write!(f, "there is no known-good point to roll back to within the maximum age{skipped}")
            }
            Self::NothingToDo => {
                f.write_str("the affected lanes already run the releases of the last known-good point")
            }
            Self::TooManySteps { steps, at_most } => {
                write!(f, "the plan has {steps} steps; the policy allows {at_most}")
            }
            Self::TooOld { age_seconds, at_most, passed_over } => write!(
                f,
                "the last known-good point last ran {age_seconds} seconds ago; the policy allows {at_most}{}",
                SkippedPoints(passed_over)
            ),
            Self::OtherLane { service, target } => write!(
                f,
                "the check failed for different services at different targets; a plan for these services and targets \
                 would also change {service} at {target}, which the check does not concern"
            ),
            Self::ResultEmpty => f.write_str("the environment would run nothing"),
            Self::Blocked(reason) => write!(f, "the plan is blocked: {reason}"),
            Self::SearchTimedOut(seconds) => {
                write!(
                    f,
                    "the search for a known-good point did not end within {seconds} seconds; name a point to roll back to"
                )
            }
            Self::Undecided { attempts } => {
                write!(f, "the decision did not succeed in {attempts} attempts; name a point to roll back to")
            }
        }
    }
}

/// Checks that the earlier automatic rollbacks permit another one now.
///
/// # Errors
/// The last one failed, the cool-down has not passed, or the limit within 24 hours is reached.
pub fn check_limits(
    rule: &AutomaticRollback,
    past: &AutomaticHistory,
    now: DateTime<Utc>,
) -> Result<(), DeclineReason> {
    if let Some((rollback_id, position)) = &past.failed {
        return Err(DeclineReason::SwitchedOff { rollback_id: rollback_id.clone(), position: *position });
    }
    // Clamp to 100 years so that the addition cannot overflow.
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
    /// Returns true if the failure of a check may trigger a rollback. `required` lists the required checks.
    #[must_use]
    pub fn is_triggered_by(&self, check: &ShortText, required: &[ShortText]) -> bool {
        if self.checks.is_empty() { required.contains(check) } else { self.checks.contains(check) }
    }
}

/// The lanes that an automatic rollback may change after a failed check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConcernedLanes {
    /// All lanes of the environment.
    All,
    /// Each failed lane, and the services that depend on its service, at its target.
    Of(BTreeSet<(ServiceName, TargetName)>),
}

impl ConcernedLanes {
    /// Returns the lanes that a failed check of `subject` concerns; `None` if there are none. `failed` has the lanes in
    /// which the failure is the latest result of the check for what runs there.
    ///
    /// For [`AutomaticScope::Environment`] and for a check of an environment: all lanes.
    #[must_use]
    pub fn of(
        scope: AutomaticScope,
        subject: &ValidationSubject,
        policy: &Policy,
        failed: &BTreeSet<(ServiceName, TargetName)>,
    ) -> Option<Self> {
        if scope == AutomaticScope::Environment || matches!(subject, ValidationSubject::Environment(_)) {
            return Some(Self::All);
        }
        let with_dependents = |(service, target): &(ServiceName, TargetName)| {
            let services = policy.with_dependents(BTreeSet::from([service.clone()]));
            services.into_iter().map(|service| (service, target.clone())).collect::<Vec<_>>()
        };
        let lanes: BTreeSet<_> = failed.iter().flat_map(with_dependents).collect();
        // A filter without services would include all of them.
        (!lanes.is_empty()).then_some(Self::Of(lanes))
    }

    /// Returns the services and targets of the lanes. They may include other lanes too: see [`Self::check`].
    #[must_use]
    pub fn filter(&self) -> LaneFilter {
        match self {
            Self::All => LaneFilter::default(),
            Self::Of(lanes) => LaneFilter {
                services: lanes.iter().map(|(service, _)| service.clone()).collect(),
                targets: lanes.iter().map(|(_, target)| target.clone()).collect(),
            },
        }
    }

    /// Checks that a plan changes concerned lanes only.
    ///
    /// # Errors
    /// A step changes another lane.
    pub fn check(&self, plan: &Plan) -> Result<(), DeclineReason> {
        let Self::Of(lanes) = self else { return Ok(()) };
        let is_other = |step: &&Step| !lanes.contains(&(step.service.clone(), step.target.clone()));
        match plan.steps.iter().find(is_other) {
            Some(Step { service, target, .. }) => {
                Err(DeclineReason::OtherLane { service: service.clone(), target: target.clone() })
            }
            None => Ok(()),
        }
    }
}

/// Checks that a plan is within the policy's limits for its steps and for the time since its point last ran.
///
/// # Errors
/// The point is too old, or the plan has too many steps.
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

/// A known-good point, with the plan that rolls the affected lanes back to it.
#[derive(Debug, Clone, Copy)]
pub struct KnownGoodPoint<'a> {
    /// The point.
    pub position: Position,
    /// The time at which the point last ran; now, if it still does.
    pub last_stood_at: DateTime<Utc>,
    /// The plan, which removes only lanes that the point shows as removed.
    pub plan: &'a Plan,
    /// The issues of the plan.
    pub issues: &'a [(PlanIssue, Severity)],
}

/// A search through the known-good points, newest first, for the one to roll back to.
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
    /// Request a rollback to this point.
    Take,
    /// Skip this point and consider the next one.
    PassOver,
}

impl<'a> PointSearch<'a> {
    /// Starts a search.
    #[must_use]
    pub const fn new(rule: &'a AutomaticRollback, present: &'a Lanes, now: DateTime<Utc>) -> Self {
        Self { rule, present, now, passed_over: Vec::new() }
    }

    /// Considers the next known-good point. Skips it if a revoked artifact or a barrier blocks its plan.
    ///
    /// # Errors
    /// The plan exceeds a limit, changes nothing or leaves nothing running, or is blocked by an issue that does not
    /// depend on the point. The search ends: an older point is no alternative.
    pub fn consider(&mut self, point: &KnownGoodPoint<'_>) -> Result<Search, DeclineReason> {
        let age = self.now - point.last_stood_at;
        if let Err(DeclineReason::TooOld { age_seconds, at_most, .. }) = check_bounds(self.rule, 0, age) {
            let passed_over = std::mem::take(&mut self.passed_over);
            return Err(DeclineReason::TooOld { age_seconds, at_most, passed_over });
        }
        let blocking_issues = |depends_on_point: bool| {
            let blocking = point.issues.iter().filter(|(_, severity)| !severity.permits(false));
            let blocking = blocking.filter(|(issue, _)| is_specific_to_point(issue) == depends_on_point);
            let reasons: Vec<_> = blocking.map(|(issue, _)| issue.to_string()).collect();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        if let Some(reason) = blocking_issues(true) {
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
        blocking_issues(false).map_or(Ok(Search::Take), |reason| Err(DeclineReason::Blocked(reason)))
    }

    /// Returns the points that were skipped.
    #[must_use]
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// Ends a search that found no point, and returns the reason to decline.
    #[must_use]
    pub fn exhausted(self) -> DeclineReason {
        DeclineReason::NoKnownGoodPoint(self.passed_over)
    }
}

/// Returns true for issues that the plan to an older point may not have.
const fn is_specific_to_point(issue: &PlanIssue) -> bool {
    matches!(issue, PlanIssue::ArtifactRevoked { .. } | PlanIssue::Barrier(_))
}
