//! The status of a composition, and the evidence that it rests on.
//!
//! Results of checks are kept by what was checked: a release in a lane, or the composition as a whole. They count again when the
//! release, or the composition, returns. Of several results of one check for one subject the one with the greatest
//! `(occurred_at, position)` counts, so that a status does not depend on the order in which reports arrived.
//!
//! Decision 0015, section 4, is the specification.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Actor, MarkedStatus, Policy};
use crate::{LongText, Position, ServiceName, ShortText, TargetName};

/// What a check said of a release in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Whether it passed.
    pub passed: bool,
    /// When the check was done, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Where that is told in the ledger.
    pub position: Position,
}

/// The latest verdict of every check of one release in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckResults(BTreeMap<ShortText, CheckResult>);

impl CheckResults {
    /// Takes one more verdict into account.
    pub fn add(&mut self, check: ShortText, verdict: CheckResult) {
        let order = |verdict: &CheckResult| (verdict.occurred_at, verdict.position);
        match self.0.get_mut(&check) {
            Some(kept) if order(kept) >= order(&verdict) => {}
            Some(kept) => *kept = verdict,
            None => {
                self.0.insert(check, verdict);
            }
        }
    }

    /// What a check said last.
    #[must_use]
    pub fn of(&self, check: &ShortText) -> Option<&CheckResult> {
        self.0.get(check)
    }

    /// What each check said last, by the check's name.
    pub fn iter(&self) -> impl Iterator<Item = (&ShortText, &CheckResult)> {
        self.0.iter()
    }
}

/// The status of a release point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing runs: there is nothing to go back to.
    Empty,
    /// Not shown to be good, and not shown to be bad.
    Candidate,
    /// It may be rolled back to.
    KnownGood,
    /// It must not be rolled back to.
    Bad,
}

impl Status {
    /// The status as one word.
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

/// A person's mark on a composition, as long as it is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The position of the mark.
    pub position: Position,
    /// When it was made.
    pub occurred_at: DateTime<Utc>,
    /// What the composition is called.
    pub status: MarkedStatus,
    /// The name that the marked point was given.
    pub name: Option<ShortText>,
    /// Who made it.
    pub actor: Option<Actor>,
    /// Why.
    pub reason: Option<LongText>,
}

impl Marked {
    /// Returns true if the result is later than the mark.
    pub(crate) const fn is_before(&self, verdict: &CheckResult) -> bool {
        let (one, other) = (self.occurred_at.timestamp_micros(), verdict.occurred_at.timestamp_micros());
        one < other || one == other && self.position.get() < verdict.position.get()
    }
}

/// What the status of a composition rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// The lanes that run something, with the results for their releases.
    pub lanes: Vec<CheckedLane<'a>>,
    /// The results for the composition as a whole.
    pub composition: &'a CheckResults,
    /// How long the composition has stood, up to its end or to now.
    pub stood: TimeDelta,
    /// Whether it still stands.
    pub stands: bool,
    /// The mark on it.
    pub marked: Option<&'a Marked>,
}

/// A lane of a composition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLane<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The target.
    pub target: &'a TargetName,
    /// Whether the point began with a change of this lane.
    pub changed: bool,
    /// The results for the release that it runs.
    pub verdicts: &'a CheckResults,
}

/// A status, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The status.
    pub status: Status,
    /// Why, each with its evidence.
    pub reasons: Vec<Reason>,
}

/// What a check was about: one lane, or the composition as a whole.
pub type CheckedPart = Option<(ServiceName, TargetName)>;

/// Something that a status rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing runs.
    Empty,
    /// A person marked it.
    Marked {
        /// The position of the mark.
        position: Position,
        /// As what.
        status: Status,
    },
    /// A check failed.
    Failed {
        /// For this lane; `None`: for the composition.
        lane: CheckedPart,
        /// The check.
        check: ShortText,
        /// Whether the policy requires it.
        required: bool,
        /// The position of the result.
        position: Position,
    },
    /// A required check has no result, neither for the composition nor for what this lane runs.
    Missing {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The check.
        check: ShortText,
    },
    /// The policy requires no check, and none passed for the composition, or for what the point began with.
    Unchecked,
    /// It has not stood as long as the policy wants; unless it stands no more, it may yet.
    NotSoaked {
        /// Seconds that it stood.
        stood: u64,
        /// Seconds that the policy wants.
        wanted: u64,
        /// Whether it still stands.
        stands: bool,
    },
    /// What had to pass has passed, and nothing failed since.
    Passed {
        /// The latest of the results.
        position: Option<Position>,
    },
}

/// Judges a composition by a policy.
#[must_use]
pub fn judge(policy: &Policy, evidence: &Evidence<'_>) -> Judgement {
    if let Some(marked) = evidence.marked {
        return judge_marked(policy, evidence, marked);
    }
    if evidence.lanes.is_empty() {
        return Judgement { status: Status::Empty, reasons: vec![Reason::Empty] };
    }
    let mut reasons = failures(policy, evidence);
    for check in &policy.required_validations {
        if evidence.composition.of(check).is_some_and(|verdict| verdict.passed) {
            continue;
        }
        let missing = evidence.lanes.iter().filter(|lane| lane.verdicts.of(check).is_none());
        reasons.extend(missing.map(|lane| Reason::Missing {
            service: lane.service.clone(),
            target: lane.target.clone(),
            check: check.clone(),
        }));
    }
    if policy.required_validations.is_empty() && !one_passed(evidence) {
        reasons.push(Reason::Unchecked);
    }
    let stood = u64::try_from(evidence.stood.num_seconds()).unwrap_or(0);
    if stood < policy.soak_seconds {
        reasons.push(Reason::NotSoaked { stood, wanted: policy.soak_seconds, stands: evidence.stands });
    }
    if reasons.is_empty() {
        let verdicts = evidence.lanes.iter().flat_map(|lane| lane.verdicts.iter());
        let verdicts = verdicts.chain(evidence.composition.iter());
        let position = verdicts.map(|(_, verdict)| verdict.position).max();
        return Judgement { status: Status::KnownGood, reasons: vec![Reason::Passed { position }] };
    }
    let status = if has_required_failure(&reasons) { Status::Bad } else { Status::Candidate };
    Judgement { status, reasons }
}

/// A mark as bad holds. A mark as known good holds until a check fails after it.
fn judge_marked(policy: &Policy, evidence: &Evidence<'_>, marked: &Marked) -> Judgement {
    let mut reasons = vec![Reason::Marked { position: marked.position, status: marked.status.into() }];
    if marked.status == MarkedStatus::Bad {
        return Judgement { status: Status::Bad, reasons };
    }
    let is_later = |reason: &Reason| match reason {
        Reason::Failed { lane, check, .. } => {
            let verdict = match lane {
                None => evidence.composition.of(check),
                Some((service, target)) => evidence
                    .lanes
                    .iter()
                    .find(|lane| (lane.service, lane.target) == (service, target))
                    .and_then(|lane| lane.verdicts.of(check)),
            };
            verdict.is_some_and(|verdict| marked.is_before(verdict))
        }
        _ => false,
    };
    reasons.extend(failures(policy, evidence).into_iter().filter(is_later));
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

/// Checks of the composition, and of what its lanes run, whose result is a failure.
fn failures(policy: &Policy, evidence: &Evidence<'_>) -> Vec<Reason> {
    let lanes = evidence.lanes.iter();
    let lanes = lanes.map(|lane| (Some((lane.service.clone(), lane.target.clone())), lane.verdicts));
    let parts = std::iter::once((None, evidence.composition)).chain(lanes);
    let failed = parts.flat_map(|(lane, verdicts)| {
        verdicts
            .iter()
            .filter(|(_, verdict)| !verdict.passed)
            .map(move |(check, verdict)| (lane.clone(), check, verdict))
    });
    failed
        .map(|(lane, check, verdict)| Reason::Failed {
            lane,
            check: check.clone(),
            required: policy.required_validations.contains(check),
            position: verdict.position,
        })
        .collect()
}

/// Returns true if a check passed for the composition or for what the point began with; where that was a removal, for anything
/// that runs.
fn one_passed(evidence: &Evidence<'_>) -> bool {
    let removal = evidence.lanes.iter().all(|lane| !lane.changed);
    let lanes = evidence.lanes.iter().filter(|lane| lane.changed || removal);
    let mut results = lanes.flat_map(|lane| lane.verdicts.iter()).chain(evidence.composition.iter());
    results.any(|(_, verdict)| verdict.passed)
}

#[cfg(test)]
mod tests;
