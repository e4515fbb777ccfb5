//! Promotion: whether a release was known good in the environments that a policy names.
//!
//! Judged by what was examined: results for the release in its lane, and results and marks of compositions that contained it
//! there. A composition's failure is not booked on the release.

use chrono::TimeDelta;

use super::{Finding, Rule};
use crate::event::{MarkedStatus, Policy, PromotionTargets};
use crate::known_good::{CheckResult, CheckResults, Marked, Status};
use crate::{EnvironmentName, Position, ShortText, TargetName};

/// The evidence for a release in an environment.
#[derive(Debug, Clone)]
pub struct PromotionEvidence<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// Its policy.
    pub policy: &'a Policy,
    /// The targets at which traffic reached the release, at any time.
    pub targets: Vec<TargetEvidence>,
}

/// The evidence for a release in one lane, over all the times that it ran there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEvidence {
    /// The target.
    pub target: TargetName,
    /// The position of its last deploy there.
    pub deployed: Position,
    /// The results for the release in the lane.
    pub results: CheckResults,
    /// The compositions that contained it there, as far as there are results or marks for them.
    pub compositions: Vec<CompositionEvidence>,
    /// The longest time that it ran there without a break.
    pub longest_run: TimeDelta,
}

/// The evidence for a composition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompositionEvidence {
    /// The results for the composition.
    pub results: CheckResults,
    /// The mark on it.
    pub marked: Option<Marked>,
}

/// The status of a release in a lane, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseJudgement {
    /// The status.
    pub status: Status,
    /// Why, in words.
    pub reason: String,
    /// The position of the evidence.
    pub position: Option<Position>,
}

/// Judges a release in a lane by the environment's policy.
#[must_use]
pub fn judge_release(policy: &Policy, evidence: &TargetEvidence) -> ReleaseJudgement {
    let is_required = |check: &ShortText| policy.required_validations.contains(check);
    let marked = evidence.compositions.iter().filter_map(|of| Some((of, of.marked.as_ref()?)));
    let results = evidence.results.iter();
    if let Some((composition, mark)) = marked.max_by_key(|(_, mark)| mark.position) {
        let later = results.chain(composition.results.iter()).filter(|(_, result)| mark.is_before(result));
        return judge_marked(mark, first_failure(later, is_required));
    }
    if let Some(failure) = first_failure(results, is_required) {
        return failure.judgement();
    }
    let candidate =
        |reason: String, position| ReleaseJudgement { status: Status::Candidate, reason, position };
    let all = || std::iter::once(&evidence.results).chain(evidence.compositions.iter().map(|of| &of.results));
    for check in &policy.required_validations {
        let of_check: Vec<&CheckResult> = all().filter_map(|of| of.of(check)).collect();
        if of_check.iter().any(|result| result.passed) {
            continue;
        }
        return match of_check.iter().map(|result| result.position).max() {
            Some(failed) => candidate(format!("{check} failed with it"), Some(failed)),
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
        return candidate(format!("it ran {ran} of {} seconds", policy.soak_seconds), None);
    }
    ReleaseJudgement { status: Status::KnownGood, reason: "its checks passed".into(), position: last }
}

/// A check of which the result is a failure.
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

/// The failure that weighs most: of a required check if there is one.
fn first_failure<'a>(
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

fn judge_marked(mark: &Marked, later: Option<Failure<'_>>) -> ReleaseJudgement {
    let marked = |status, what: &str| ReleaseJudgement {
        status,
        reason: format!("a point with it was marked {what}"),
        position: Some(mark.position),
    };
    match (mark.status, later) {
        (MarkedStatus::Bad, _) => marked(Status::Bad, "bad"),
        (MarkedStatus::KnownGood, Some(failure)) => failure.judgement(),
        (MarkedStatus::KnownGood, None) => marked(Status::KnownGood, "known good"),
    }
}

/// The result for one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotionResult {
    /// The status of the release at each target, by target.
    pub targets: Vec<(TargetName, ReleaseJudgement)>,
    /// Whether the release may be promoted from the environment.
    pub passes: bool,
}

impl PromotionEvidence<'_> {
    /// Judges the release at each target where it ran.
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

/// One finding for each environment of the policy. One of which there is no evidence fails.
pub(super) fn findings(policy: &Policy, evidence: &[PromotionEvidence<'_>]) -> Vec<Finding> {
    let Some(promotion) = &policy.promotion else { return Vec::new() };
    let of = |environment| evidence.iter().find(|evidence| evidence.environment == environment);
    let finding = |environment| match of(environment) {
        Some(evidence) => finding(environment, &evidence.result(promotion.targets)),
        None => Finding::unknown(Rule::Promotion, format!("nothing is known of it in {environment}"), None),
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
    let decides = result.targets.iter().find(|(_, judgement)| is_good(judgement) == result.passes);
    let (detail, position) = match decides {
        None => {
            let detail = format!("it never ran in {environment}");
            return Finding::unknown(Rule::Promotion, detail, None);
        }
        Some((target, judgement)) => {
            let place = place(target);
            let detail = match judgement.status {
                Status::KnownGood if several && result.targets.iter().all(|(_, of)| is_good(of)) => {
                    format!("it was known good in {environment} at every target where it ran")
                }
                Status::KnownGood => format!("it was known good in {place}"),
                Status::Bad => format!("it is bad in {place}: {}", judgement.reason),
                Status::Candidate | Status::Empty => {
                    format!("it ran in {place}, and is not known good there: {}", judgement.reason)
                }
            };
            (detail, judgement.position)
        }
    };
    Finding::new(Rule::Promotion, result.passes, detail, position)
}
