//! Whether a release point is known good, and by what evidence.
//!
//! A verdict belongs to what was checked: a release in a lane. So it counts again when the release comes
//! back. Of several verdicts of one check the one with the greatest `(occurred_at, position)` counts, so
//! that the answer does not depend on the order in which reports arrived.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Actor, MarkedStatus, Policy};
use crate::{Line, Position, Prose, ServiceName, TargetName};

/// What a check said of a release in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passed.
    pub passed: bool,
    /// When the check was done, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Where that is told in the ledger.
    pub position: Position,
}

/// The latest verdict of every check of one release in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts(BTreeMap<Line, Verdict>);

impl Verdicts {
    /// Takes one more verdict into account.
    pub fn add(&mut self, check: Line, verdict: Verdict) {
        let order = |verdict: &Verdict| (verdict.occurred_at, verdict.position);
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
    pub fn of(&self, check: &Line) -> Option<&Verdict> {
        self.0.get(check)
    }

    /// What each check said last, by the check's name.
    pub fn iter(&self) -> impl Iterator<Item = (&Line, &Verdict)> {
        self.0.iter()
    }
}

/// What is thought of a release point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
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

/// A person's word on a point, as long as nobody takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Where it stands in the ledger.
    pub position: Position,
    /// What the point is called.
    pub status: MarkedStatus,
    /// The name that it was given.
    pub name: Option<Line>,
    /// Who said so.
    pub actor: Option<Actor>,
    /// Why.
    pub reason: Option<Prose>,
}

/// What a point is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// What each lane that runs something runs, checked.
    pub lanes: Vec<CheckedLane<'a>>,
    /// How long the composition has stood, up to its end or to now.
    pub stood: TimeDelta,
    /// Whether it still stands.
    pub stands: bool,
    /// A person's word.
    pub marked: Option<&'a Marked>,
}

/// A lane of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLane<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The target.
    pub target: &'a TargetName,
    /// Whether the point began with a change of this lane.
    pub changed: bool,
    /// What checks said of the release that it runs.
    pub verdicts: &'a Verdicts,
}

/// What is thought of a point, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is thought of it.
    pub status: Status,
    /// Why, each with its evidence.
    pub reasons: Vec<Reason>,
}

/// Something that a status rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A person called it so.
    Marked {
        /// Where.
        position: Position,
        /// What.
        status: Status,
    },
    /// A check failed.
    Failed {
        /// Of this service.
        service: ServiceName,
        /// At this target.
        target: TargetName,
        /// Which check.
        check: Line,
        /// Whether the policy requires it.
        required: bool,
        /// Where that is told.
        position: Position,
    },
    /// A required check has said nothing of what a lane runs.
    Missing {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The check.
        check: Line,
    },
    /// The policy requires no check, and none passed for what the point began with.
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
        /// The latest of the verdicts; none where the environment runs nothing and nothing is required.
        position: Option<Position>,
    },
}

/// Judges a point by a policy. A person's word outranks the rule; else a point is
///
/// - `bad` when the latest verdict of a check that the policy requires is that it failed;
/// - `known_good` when every required check has passed for what each lane runs (where none is required: when
///   one passed for what the point began with), no check's latest verdict is a failure, and the composition
///   stood as long as the policy says;
/// - else `candidate`.
#[must_use]
pub fn judge(policy: &Policy, evidence: &Evidence<'_>) -> Judgement {
    if let Some(marked) = evidence.marked {
        let status = marked.status.into();
        return Judgement { status, reasons: vec![Reason::Marked { position: marked.position, status }] };
    }
    let mut reasons = Vec::new();
    for lane in &evidence.lanes {
        lane_faults(policy, lane, &mut reasons);
    }
    if policy.required_validations.is_empty() && !one_passed(&evidence.lanes) {
        reasons.push(Reason::Unchecked);
    }
    let stood = u64::try_from(evidence.stood.num_seconds()).unwrap_or(0);
    if stood < policy.soak_seconds {
        reasons.push(Reason::NotSoaked { stood, wanted: policy.soak_seconds, stands: evidence.stands });
    }
    let bad = reasons.iter().any(|reason| matches!(reason, Reason::Failed { required: true, .. }));
    let status = match (bad, reasons.is_empty()) {
        (true, _) => Status::Bad,
        (false, true) => Status::KnownGood,
        (false, false) => Status::Candidate,
    };
    if status == Status::KnownGood {
        let verdicts = evidence.lanes.iter().flat_map(|lane| lane.verdicts.iter());
        reasons.push(Reason::Passed { position: verdicts.map(|(_, verdict)| verdict.position).max() });
    }
    Judgement { status, reasons }
}

fn lane_faults(policy: &Policy, lane: &CheckedLane<'_>, reasons: &mut Vec<Reason>) {
    for (check, verdict) in lane.verdicts.iter().filter(|(_, verdict)| !verdict.passed) {
        reasons.push(Reason::Failed {
            service: lane.service.clone(),
            target: lane.target.clone(),
            check: check.clone(),
            required: policy.required_validations.contains(check),
            position: verdict.position,
        });
    }
    for check in policy.required_validations.iter().filter(|check| lane.verdicts.of(check).is_none()) {
        reasons.push(Reason::Missing {
            service: lane.service.clone(),
            target: lane.target.clone(),
            check: check.clone(),
        });
    }
}

/// Whether a check passed for what the point began with; where that was a removal, for anything there.
fn one_passed(lanes: &[CheckedLane<'_>]) -> bool {
    let removal = lanes.iter().all(|lane| !lane.changed);
    let mut relevant = lanes.iter().filter(|lane| lane.changed || removal);
    relevant.any(|lane| lane.verdicts.iter().any(|(_, verdict)| verdict.passed))
}

#[cfg(test)]
mod tests;
