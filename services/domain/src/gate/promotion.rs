//! The promotion rule: requires that a release was known good in the environments that a policy names.
//!
//! The evidence is what was checked: results for the release in its lane, and results and marks of compositions that
//! contained it there. A composition's failure, or a mark `bad` on it, does not count as the release's.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::finding::{Finding, Rule};
use crate::event::{MarkedStatus, Policy, PromotionTargets};
use crate::known_good::{CheckResult, CheckResults, Marked, Status};
use crate::{Artifact, EnvironmentName, Position, Release, ShortText, TargetName};

/// The evidence about a release in an environment.
#[derive(Debug, Clone)]
pub struct PromotionEvidence<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The environment's policy.
    pub policy: &'a Policy,
    /// The targets at which the release ever received traffic.
    pub targets: Vec<TargetEvidence>,
}

/// The evidence about a release in one lane, over all its runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEvidence {
    /// The target.
    pub target: TargetName,
    /// The position of the release's last deploy to the lane.
    pub deployed: Position,
    /// The results for the release in the lane.
    pub results: CheckResults,
    /// The compositions that contained the release in the lane and have results or marks.
    pub compositions: Vec<CompositionEvidence>,
    /// The longest uninterrupted run of the release in the lane.
    pub longest_run: TimeDelta,
}

/// The evidence about a composition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompositionEvidence {
    /// The results for the composition.
    pub results: CheckResults,
    /// The mark on it.
    pub marked: Option<Marked>,
}

/// The status of a release in a lane, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseJudgement {
    /// The status.
    pub status: Status,
    /// The reason, as text.
    pub reason: String,
    /// The position of the evidence.
    pub position: Option<Position>,
}

/// Returns true if a deployed release counts as the requested one: the artifacts are the same or, where one is unknown,
/// the versions are equal. `artifact` is the one that the deployed release has [in its
/// lane](crate::checks::artifact_in_lane), in case it states none.
#[must_use]
pub fn counts_as_requested(requested: &Release, deployed: &Release, artifact: Option<&Artifact>) -> bool {
    let has_version = requested.version == deployed.version;
    match (&requested.artifact, &deployed.artifact) {
        (None, _) => has_version,
        (Some(wanted), Some(own)) => own.is_same(wanted),
        (Some(wanted), None) => has_version && artifact.is_none_or(|artifact| artifact.is_same(wanted)),
    }
}

/// Selects the evidence that counts at each target, sorted by target. Of several releases that ran there, it is that of
/// a known-good one and, among these, of the one that was deployed last.
#[must_use]
pub fn best_by_target(
    policy: &Policy,
    evidence: impl IntoIterator<Item = TargetEvidence>,
) -> Vec<TargetEvidence> {
    let mut best: BTreeMap<TargetName, ((bool, Position), TargetEvidence)> = BTreeMap::new();
    for evidence in evidence {
        let is_good = judge_release(policy, &evidence).status == Status::KnownGood;
        let rank = (is_good, evidence.deployed);
        if best.get(&evidence.target).is_none_or(|(best, _)| *best < rank) {
            best.insert(evidence.target.clone(), (rank, evidence));
        }
    }
    best.into_values().map(|(_, evidence)| evidence).collect()
}

/// Judges a release in a lane by the environment's policy. What is known of a composition that contained it speaks for
/// the release, not against it: another part may be at fault. But a release of which every composition with evidence is
/// marked bad is bad.
#[must_use]
pub(crate) fn judge_release(policy: &Policy, evidence: &TargetEvidence) -> ReleaseJudgement {
    let is_required = |check: &ShortText| policy.required_validations.contains(check);
    let good: Vec<&Marked> =
        evidence.compositions.iter().filter_map(CompositionEvidence::good_mark).collect();
    let overrides = |result: &CheckResult| good.iter().any(|mark| !mark.is_before(result));
    let failures = evidence.results.iter().filter(|(_, result)| !overrides(result));
    if let Some(failure) = decisive_failure(failures, is_required) {
        return failure.judgement();
    }
    let marked = |status, status_text: &str, mark: &Marked| ReleaseJudgement {
        status,
        reason: format!("a release point that contains it is marked {status_text}"),
        position: Some(mark.position),
    };
    if let Some(mark) = good.into_iter().max_by_key(|mark| mark.position) {
        return marked(Status::KnownGood, "known good", mark);
    }
    let bad = evidence.compositions.iter().filter_map(CompositionEvidence::bad_mark);
    let not_bad = || evidence.compositions.iter().filter(|of| of.bad_mark().is_none());
    if let Some(mark) = bad.max_by_key(|mark| mark.position)
        && !not_bad().any(CompositionEvidence::passed)
    {
        return marked(Status::Bad, "bad", mark);
    }
    let candidate =
        |reason: String, position| ReleaseJudgement { status: Status::Candidate, reason, position };
    let all = || std::iter::once(&evidence.results).chain(not_bad().map(|of| &of.results));
    for check in &policy.required_validations {
        let of_check: Vec<&CheckResult> = all().filter_map(|of| of.of(check)).collect();
        if of_check.iter().any(|result| result.passed) {
            continue;
        }
        return match of_check.iter().map(|result| result.position).max() {
            Some(failed) => {
                candidate(format!("{check} failed for a composition that contains it"), Some(failed))
            }
            None => candidate(format!("{check} has no result"), None),
        };
    }
    let results = all().flat_map(CheckResults::iter);
    let last = results.filter(|(_, result)| result.passed).map(|(_, result)| result.position).max();
    if last.is_none() {
        return candidate("no check passed".into(), None);
    }
    let ran = u64::try_from(evidence.longest_run.num_seconds()).unwrap_or(0);
    if ran < policy.soak_seconds {
        return candidate(format!("it ran for {ran} of {} soak seconds", policy.soak_seconds), None);
    }
    ReleaseJudgement { status: Status::KnownGood, reason: "its checks passed".into(), position: last }
}

impl CompositionEvidence {
    /// Returns the mark, if it says known good and no check of the composition failed after it.
    fn good_mark(&self) -> Option<&Marked> {
        let mark = self.marked.as_ref().filter(|mark| mark.status == MarkedStatus::KnownGood)?;
        let failed_later = self.results.iter().any(|(_, result)| !result.passed && mark.is_before(result));
        (!failed_later).then_some(mark)
    }

    /// Returns true if a check of the composition passed and none failed.
    fn passed(&self) -> bool {
        let mut results = self.results.iter().map(|(_, result)| result.passed).peekable();
        results.peek().is_some() && results.all(|passed| passed)
    }

    /// Returns the mark, if it says bad.
    fn bad_mark(&self) -> Option<&Marked> {
        self.marked.as_ref().filter(|mark| mark.status == MarkedStatus::Bad)
    }
}

/// A failed check.
struct Failure<'a> {
    check: &'a ShortText,
    required: bool,
    position: Position,
}

impl Failure<'_> {
    fn judgement(&self) -> ReleaseJudgement {
        let status = if self.required { Status::Bad } else { Status::Candidate };
        ReleaseJudgement { status, reason: format!("{} failed", self.check), position: Some(self.position) }
    }
}

/// Returns the decisive failure: the latest of a required check or, if there is none, the latest of any check.
fn decisive_failure<'a>(
    results: impl Iterator<Item = (&'a ShortText, &'a CheckResult)>,
    is_required: impl Fn(&ShortText) -> bool,
) -> Option<Failure<'a>> {
    let failed = results.filter(|(_, result)| !result.passed).map(|(check, result)| Failure {
        check,
        required: is_required(check),
        position: result.position,
    });
    failed.max_by_key(|failure| (failure.required, failure.position))
}

/// The result of the promotion rule for one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotionResult {
    /// The status of the release at each target, sorted by target.
    pub targets: Vec<(TargetName, ReleaseJudgement)>,
    /// True if the release may be promoted from the environment.
    pub passes: bool,
}

impl PromotionEvidence<'_> {
    /// Judges the release at each target at which it ran.
    #[must_use]
    pub fn result(&self, targets: PromotionTargets) -> PromotionResult {
        let judged = self.targets.iter().map(|of| (of.target.clone(), judge_release(self.policy, of)));
        let mut judged: Vec<_> = judged.collect();
        judged.sort_by(|(one, _), (other, _)| one.cmp(other));
        let is_good = |(_, judgement): &(_, ReleaseJudgement)| judgement.status == Status::KnownGood;
        let passes = match targets {
            PromotionTargets::All => !judged.is_empty() && judged.iter().all(is_good),
            PromotionTargets::Any => judged.iter().any(is_good),
        };
        PromotionResult { targets: judged, passes }
    }
}

/// Returns one finding for each environment of the policy. An environment without evidence fails.
pub(super) fn findings(policy: &Policy, evidence: &[PromotionEvidence<'_>]) -> Vec<Finding> {
    let Some(promotion) = &policy.promotion else { return Vec::new() };
    let of = |environment| evidence.iter().find(|evidence| evidence.environment == environment);
    let finding = |environment| match of(environment) {
        Some(evidence) => finding(environment, &evidence.result(promotion.targets)),
        None => {
            Finding::unknown(Rule::Promotion, format!("no evidence of the release in {environment}"), None)
        }
    };
    promotion.from.iter().map(finding).collect()
}

fn finding(environment: &EnvironmentName, result: &PromotionResult) -> Finding {
    let several = result.targets.len() > 1;
    let place = |target: &TargetName| match several || *target != TargetName::default() {
        true => format!("{environment} at {target}"),
        false => environment.to_string(),
    };
    let is_good = |judgement: &ReleaseJudgement| judgement.status == Status::KnownGood;
    let decisive = result.targets.iter().find(|(_, judgement)| is_good(judgement) == result.passes);
    let (detail, position) = match decisive {
        None => {
            let detail = format!("the release never ran in {environment}");
            return Finding::unknown(Rule::Promotion, detail, None);
        }
        Some((target, judgement)) => {
            let place = place(target);
            let detail = match judgement.status {
                Status::KnownGood if several && result.targets.iter().all(|(_, of)| is_good(of)) => {
                    format!("the release was known good in {environment} at every target where it ran")
                }
                Status::KnownGood => format!("the release was known good in {place}"),
                Status::Bad => format!("the release is bad in {place}: {}", judgement.reason),
                Status::Candidate | Status::Empty => {
                    format!("the release ran in {place} but is not known good there: {}", judgement.reason)
                }
            };
            (detail, judgement.position)
        }
    };
    Finding::new(Rule::Promotion, result.passes, detail, position)
}
