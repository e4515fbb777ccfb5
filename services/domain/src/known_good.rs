//! The status of a composition (candidate, known good, bad), decided from check results, soak time and marks.
//!
//! Check results belong to their subject: a release in a lane, or the composition as a whole. They count again when the
//! release or the composition returns. Of several results of one check for one subject, the one with the greatest
//! `(occurred_at, position)` counts, so a status does not depend on the order in which reports arrive.
//!
//! Decision 0015, section 4, is the specification.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Actor, MarkedStatus, Policy};
use crate::{EventTime, LongText, Position, ServiceName, ShortText, TargetName};

/// The result of a check for one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// True if the check passed.
    pub passed: bool,
    /// Time of the check's end, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Position of the report.
    pub position: Position,
}

/// The latest result of each check for one subject: a release in a lane, or a composition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckResults(BTreeMap<ShortText, CheckResult>);

impl CheckResults {
    /// Adds a result. The latest result of each check by `(occurred_at, position)` is kept.
    pub fn add(&mut self, check: ShortText, result: CheckResult) {
        let order = |result: &CheckResult| EventTime::new(result.occurred_at, result.position);
        match self.0.get_mut(&check) {
            Some(latest) if order(latest) >= order(&result) => {}
            Some(latest) => *latest = result,
            None => {
                self.0.insert(check, result);
            }
        }
    }

    /// Returns the latest result of a check.
    #[must_use]
    pub fn of(&self, check: &ShortText) -> Option<&CheckResult> {
        self.0.get(check)
    }

    /// Returns the latest result of each check, sorted by the name of the check.
    pub fn iter(&self) -> impl Iterator<Item = (&ShortText, &CheckResult)> {
        self.0.iter()
    }
}

/// The status of a release point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing runs at the point.
    Empty,
    /// Neither shown to be good nor shown to be bad.
    Candidate,
    /// The point may be rolled back to.
    KnownGood,
    /// The point must not be rolled back to.
    Bad,
}

impl Status {
    /// Returns the name of the status in the API and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Candidate => "candidate",
            Self::KnownGood => "known_good",
            Self::Bad => "bad",
        }
    }
}

impl From<MarkedStatus> for Status {
    fn from(marked: MarkedStatus) -> Self {
        match marked {
            MarkedStatus::KnownGood => Self::KnownGood,
            MarkedStatus::Bad => Self::Bad,
        }
    }
}

/// A person's mark on a composition that is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The position of the mark.
    pub position: Position,
    /// Time of the mark.
    pub occurred_at: DateTime<Utc>,
    /// The marked status.
    pub status: MarkedStatus,
    /// The name given to the marked point.
    pub name: Option<ShortText>,
    /// The person who made the mark.
    pub actor: Option<Actor>,
    /// The reason.
    pub reason: Option<LongText>,
}

impl Marked {
    /// Returns true if the mark is earlier than a result.
    pub(crate) const fn is_before(&self, result: &CheckResult) -> bool {
        let (one, other) = (self.occurred_at.timestamp_micros(), result.occurred_at.timestamp_micros());
        one < other || one == other && self.position.get() < result.position.get()
    }
}

/// The evidence for the status of a composition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// The lanes that run a release, with the results for their releases.
    pub lanes: Vec<CheckedLane<'a>>,
    /// The results for the composition as a whole.
    pub composition: &'a CheckResults,
    /// Duration for which the composition ran, up to its end or to now.
    pub stood: TimeDelta,
    /// True if the composition still runs.
    pub stands: bool,
    /// The mark on the composition.
    pub marked: Option<&'a Marked>,
}

/// A lane of a composition, with its check results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLane<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The target.
    pub target: &'a TargetName,
    /// True if the point began with a change of this lane.
    pub changed: bool,
    /// The results for the release that the lane runs.
    pub verdicts: &'a CheckResults,
}

/// A status with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The status.
    pub status: Status,
    /// The reasons for the status, each with its evidence.
    pub reasons: Vec<Reason>,
}

/// The subject of a check result: a lane; `None`: the composition as a whole.
pub type CheckedPart = Option<(ServiceName, TargetName)>;

/// A reason for a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing runs at the point.
    Empty,
    /// A person marked the composition.
    Marked {
        /// The position of the mark.
        position: Position,
        /// The marked status.
        status: Status,
    },
    /// A check failed.
    Failed {
        /// The lane that the check failed for; `None`: the composition.
        lane: CheckedPart,
        /// The check.
        check: ShortText,
        /// True if the policy requires the check.
        required: bool,
        /// The position of the result.
        position: Position,
    },
    /// A required check has a result neither for the composition nor for the release in this lane.
    Missing {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The check.
        check: ShortText,
    },
    /// The policy requires no check, and none passed for the composition or for the lanes that the point began with.
    Unchecked,
    /// The composition has not run for the soak time of the policy. If it still runs, it may yet.
    NotSoaked {
        /// Seconds for which the composition ran.
        stood: u64,
        /// Soak time of the policy in seconds.
        wanted: u64,
        /// True if the composition still runs.
        stands: bool,
    },
    /// All required checks passed, and no check failed.
    Passed {
        /// The highest position among the results.
        position: Option<Position>,
    },
}

/// Decides the status of a composition according to a policy.
#[must_use]
pub fn judge(policy: &Policy, evidence: &Evidence<'_>) -> Judgement {
    if let Some(marked) = evidence.marked {
        return judge_marked(policy, evidence, marked);
    }
    if evidence.lanes.is_empty() {
        return Judgement { status: Status::Empty, reasons: vec![Reason::Empty] };
    }
    let mut reasons = failures(policy, evidence, |_| true);
    for check in &policy.required_validations {
        if evidence.composition.of(check).is_some_and(|result| result.passed) {
            continue;
        }
        let missing = evidence.lanes.iter().filter(|lane| lane.verdicts.of(check).is_none());
        reasons.extend(missing.map(|lane| Reason::Missing {
            service: lane.service.clone(),
            target: lane.target.clone(),
            check: check.clone(),
        }));
    }
    if policy.required_validations.is_empty() && !any_passed(evidence) {
        reasons.push(Reason::Unchecked);
    }
    let stood = u64::try_from(evidence.stood.num_seconds()).unwrap_or(0);
    if stood < policy.soak_seconds {
        reasons.push(Reason::NotSoaked { stood, wanted: policy.soak_seconds, stands: evidence.stands });
    }
    if reasons.is_empty() {
        let results = evidence.lanes.iter().flat_map(|lane| lane.verdicts.iter());
        let results = results.chain(evidence.composition.iter());
        let position = results.map(|(_, result)| result.position).max();
        return Judgement { status: Status::KnownGood, reasons: vec![Reason::Passed { position }] };
    }
    let status = if has_required_failure(&reasons) { Status::Bad } else { Status::Candidate };
    Judgement { status, reasons }
}

/// Decides the status of a marked composition. A mark as bad always holds; a mark as known good holds until a check
/// fails after it.
fn judge_marked(policy: &Policy, evidence: &Evidence<'_>, marked: &Marked) -> Judgement {
    let mut reasons = vec![Reason::Marked { position: marked.position, status: marked.status.into() }];
    if marked.status == MarkedStatus::Bad {
        return Judgement { status: Status::Bad, reasons };
    }
    reasons.extend(failures(policy, evidence, |result| marked.is_before(result)));
    let status = match (reasons.len(), has_required_failure(&reasons)) {
        (1, _) => Status::KnownGood,
        (_, true) => Status::Bad,
        (_, false) => Status::Candidate,
    };
    Judgement { status, reasons }
}

fn has_required_failure(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| matches!(reason, Reason::Failed { required: true, .. }))
}

/// Returns the failed checks of the composition and of the releases in its lanes, of the results that count.
fn failures(policy: &Policy, evidence: &Evidence<'_>, counts: impl Fn(&CheckResult) -> bool) -> Vec<Reason> {
    let lanes = evidence.lanes.iter();
    let lanes = lanes.map(|lane| (Some((lane.service.clone(), lane.target.clone())), lane.verdicts));
    let parts = std::iter::once((None, evidence.composition)).chain(lanes);
    let results = parts
        .flat_map(|(lane, results)| results.iter().map(move |(check, result)| (lane.clone(), check, result)));
    results
        .filter(|(_, _, result)| !result.passed && counts(result))
        .map(|(lane, check, result)| Reason::Failed {
            lane,
            check: check.clone(),
            required: policy.required_validations.contains(check),
            position: result.position,
        })
        .collect()
}

/// Returns true if a check passed for the composition or for a lane that the point began with. If the point began with
/// a removal, a passed check for any lane is enough.
fn any_passed(evidence: &Evidence<'_>) -> bool {
    let is_removal = evidence.lanes.iter().all(|lane| !lane.changed);
    let lanes = evidence.lanes.iter().filter(|lane| lane.changed || is_removal);
    let mut results = lanes.flat_map(|lane| lane.verdicts.iter()).chain(evidence.composition.iter());
    results.any(|(_, result)| result.passed)
}

#[cfg(test)]
mod tests;
