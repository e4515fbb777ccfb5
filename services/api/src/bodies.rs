//! Bodies of responses that several endpoints share.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Actor, Step};
use ledger_domain::known_good::{Marked, Reason, Status};
use ledger_domain::plan_issue::{PlanIssue, Severity};
use ledger_domain::{EventRef, Position, Release, ServiceName, ShortText, TargetName};
use ledger_ingest::Planned;
use ledger_projections::Point;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Release that a lane runs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseBody {
    /// Version, as the build names it.
    pub(crate) version: String,
    /// Artifact: a package URL, or an OCI reference by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact: Option<String>,
    /// Digest of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// Revision of the infrastructure code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) infrastructure: Option<String>,
    /// Commit that the version was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
}

impl From<&Release> for ReleaseBody {
    fn from(release: &Release) -> Self {
        Self {
            version: release.version.to_string(),
            artifact: release.artifact.as_ref().map(|artifact| artifact.as_str().to_owned()),
            config: release.config.as_ref().map(|config| config.as_str().to_owned()),
            infrastructure: release.infrastructure.as_ref().map(ToString::to_string),
            commit: release.commit.as_ref().map(ToString::to_string),
        }
    }
}

/// Reference to an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventRefBody {
    /// Its position.
    pub(crate) position: u64,
    /// Time at which it occurred, by the emitter's clock.
    pub(crate) occurred_at: DateTime<Utc>,
    /// Its CloudEvents id.
    pub(crate) event_id: String,
}

impl From<&EventRef> for EventRefBody {
    fn from(since: &EventRef) -> Self {
        Self {
            position: since.position.get(),
            occurred_at: since.occurred_at,
            event_id: since.event_id.as_str().to_owned(),
        }
    }
}

/// Person, workload or other actor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActorBody {
    /// Kind: `person`, `workload`, or another word.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Name.
    pub(crate) name: String,
}

impl From<&Actor> for ActorBody {
    fn from(actor: &Actor) -> Self {
        Self { kind: actor.kind.to_string(), name: actor.name.to_string() }
    }
}

/// Release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// Sequence number of the environment's composition change, from 1; absent if a time selected the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u64>,
    /// Position of the event that made the change.
    pub(crate) position: u64,
    /// Time at which that event occurred.
    pub(crate) occurred_at: DateTime<Utc>,
    /// CloudEvents id of that event.
    pub(crate) event_id: String,
    /// Lanes that changed: several if the environment was retired, none if a time selected the point.
    pub(crate) changed: Vec<ChangedBody>,
    /// Time of the next change; absent while the point is current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<DateTime<Utc>>,
    /// SHA-256 over the composition.
    pub(crate) digest: String,
    /// Number of lanes that ran a release.
    pub(crate) lanes: usize,
    /// Status: `empty`, `candidate`, `known_good` or `bad`.
    pub(crate) status: &'static str,
    /// Reasons for the status.
    pub(crate) reasons: Vec<ReasonBody>,
    /// Mark that a person set on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<MarkBody>,
}

/// Lane that changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedBody {
    /// Service name.
    pub(crate) service: String,
    /// Target name.
    pub(crate) target: String,
}

/// Reason for a status.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReasonBody {
    /// Kind: `empty`, `failed`, `missing`, `unchecked`, `not_soaked`, `marked` or `passed`.
    pub(crate) reason: &'static str,
    /// Explanation.
    pub(crate) detail: String,
    /// Service concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// Target concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// Check concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<String>,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// Case counts of the check, if its result has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<CountsBody>,
}

/// Case counts of a check.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct CountsBody {
    /// Cases that passed.
    pub(crate) passed: u64,
    /// Cases that failed.
    pub(crate) failed: u64,
    /// Cases that were skipped.
    pub(crate) skipped: u64,
}

/// Mark that a person set on a point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MarkBody {
    /// Position of the mark.
    pub(crate) position: u64,
    /// Status that the mark sets.
    pub(crate) status: &'static str,
    /// Name that the mark gives the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Person who set the mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<ActorBody>,
    /// Reason that the person gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl From<&Marked> for MarkBody {
    fn from(marked: &Marked) -> Self {
        Self {
            position: marked.position.get(),
            status: Status::from(marked.status).name(),
            name: marked.name.as_ref().map(ToString::to_string),
            actor: marked.actor.as_ref().map(ActorBody::from),
            reason: marked.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl From<&Point> for PointBody {
    fn from(point: &Point) -> Self {
        Self {
            number: point.number,
            position: point.since.position.get(),
            occurred_at: point.since.occurred_at,
            event_id: point.since.event_id.as_str().to_owned(),
            changed: point
                .changed
                .iter()
                .map(|(service, target)| ChangedBody {
                    service: service.to_string(),
                    target: target.to_string(),
                })
                .collect(),
            until: point.until,
            digest: point.composition.digest(),
            lanes: point.composition.lanes().count(),
            status: point.judgement.status.name(),
            reasons: point.judgement.reasons.iter().map(ReasonBody::from).collect(),
            mark: point.marked.as_ref().map(MarkBody::from),
        }
    }
}

impl From<&Reason> for ReasonBody {
    fn from(reason: &Reason) -> Self {
        let general = |name, detail: String, at: Option<Position>| Self {
            reason: name,
            detail,
            service: None,
            target: None,
            check: None,
            position: at.map(Position::get),
            counts: None,
        };
        let of_lane = |general: Self, service: &ServiceName, target: &TargetName, check: &ShortText| Self {
            service: Some(service.to_string()),
            target: Some(target.to_string()),
            check: Some(check.to_string()),
            ..general
        };
        match reason {
            Reason::Marked { position, status } => {
                general("marked", format!("a person marked it {}", status.name()), Some(*position))
            }
            Reason::Empty => general("empty", "no lane runs a release".into(), None),
            Reason::Failed { lane, check, required, position } => {
                let subject = if *required { "the required check" } else { "the check" };
                match lane {
                    Some((service, target)) => {
                        let detail = format!("{subject} {check} failed for {service} at {target}");
                        of_lane(general("failed", detail, Some(*position)), service, target, check)
                    }
                    None => {
                        let detail = format!("{subject} {check} failed for the composition");
                        let check = Some(check.to_string());
                        Self { check, ..general("failed", detail, Some(*position)) }
                    }
                }
            }
            Reason::Missing { service, target, check } => {
                let detail = format!("no result of {check} for the release of {service} at {target}");
                of_lane(general("missing", detail, None), service, target, check)
            }
            Reason::Unchecked => general(
                "unchecked",
                "no check has passed for the releases that the point introduced".into(),
                None,
            ),
            Reason::NotSoaked { stood, wanted, stands } => {
                let verb = if *stands { "has been current" } else { "was current" };
                general("not_soaked", format!("it {verb} for {stood} s of the required {wanted} s"), None)
            }
            Reason::Passed { position } => general(
                "passed",
                "all required checks have passed, and none has failed since".into(),
                *position,
            ),
        }
    }
}

/// Plan of a rollback to a release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanBody {
    /// Environment name.
    pub(crate) environment: String,
    /// Ledger position that the response reflects.
    pub(crate) position: u64,
    /// Position of the environment's last change: pass it as `If-Match`.
    pub(crate) environment_position: u64,
    /// Release point that the plan leads to.
    pub(crate) to: PlanPointBody,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<u64>,
    /// SHA-256 over the plan's steps.
    pub(crate) plan_digest: String,
    /// Steps, by wave.
    pub(crate) steps: Vec<StepBody>,
    /// SHA-256 over the composition after the plan is executed.
    pub(crate) result_digest: String,
    /// Issues of the plan.
    pub(crate) issues: Vec<PlanIssueBody>,
    /// True if the rollback can be requested only with `force`, or not at all.
    pub(crate) blocked: bool,
}

/// Release point that a plan leads to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanPointBody {
    /// Position of the point.
    pub(crate) position: u64,
    /// Environment of the point, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Time that selected the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<DateTime<Utc>>,
    /// Status of the point.
    pub(crate) status: &'static str,
    /// Release point; absent if the environment did not exist at that position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) point: Option<PointBody>,
}

/// Step of a plan: the change of one lane.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StepBody {
    /// Wave number. Steps of one wave may run in parallel.
    pub(crate) wave: u32,
    /// Service name.
    pub(crate) service: String,
    /// Target name.
    pub(crate) target: String,
    /// Action: `redeploy`, `add`, `remove` or `switch`.
    pub(crate) action: &'static str,
    /// Slot that the action changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<String>,
    /// Release of the lane before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<ReleaseBody>,
    /// Release of the lane after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<ReleaseBody>,
}

impl From<&Step> for StepBody {
    fn from(step: &Step) -> Self {
        Self {
            wave: step.wave,
            service: step.service.to_string(),
            target: step.target.to_string(),
            action: step.action.name(),
            slot: step.slot.as_ref().map(ToString::to_string),
            from: step.from.as_ref().map(ReleaseBody::from),
            to: step.to.as_ref().map(ReleaseBody::from),
        }
    }
}

/// Issue of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanIssueBody {
    /// Kind: `already_there`, `artifact_revoked`, `barrier`, `barrier_unfinished`, `barrier_of_dependency`,
    /// `barrier_unplaced`, `environment_retired`, `target_empty`,
    /// `target_bad`, `target_not_known_good`, `freeze` or `deploy_open`.
    pub(crate) kind: &'static str,
    /// Severity: `warning`, `overridable` (by `force`), or `fatal`.
    pub(crate) severity: &'static str,
    /// Explanation.
    pub(crate) detail: String,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
}

impl PlanIssueBody {
    pub(crate) fn of(issue: &PlanIssue, severity: Severity) -> Self {
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Overridable => "overridable",
            Severity::Fatal => "fatal",
        };
        let position = issue.position().map(Position::get);
        Self { kind: issue.name(), severity, detail: issue.to_string(), position }
    }
}

impl PlanBody {
    pub(crate) fn of(planned: &Planned) -> Self {
        let request = &planned.plan_request;
        let status = planned.point.as_ref().map_or(Status::Empty, |point| point.judgement.status);
        Self {
            environment: request.environment.to_string(),
            position: planned.position.get(),
            environment_position: planned.environment_position.get(),
            to: PlanPointBody {
                position: planned.to.get(),
                source: request.source().map(ToString::to_string),
                at: planned.at,
                status: status.name(),
                point: planned.point.as_ref().map(PointBody::from),
            },
            policy: planned.policy.declared.map(Position::get),
            plan_digest: planned.plan.digest(),
            steps: planned.plan.steps.iter().map(StepBody::from).collect(),
            result_digest: planned.result.digest(),
            issues: planned
                .issues
                .iter()
                .map(|(issue, severity)| PlanIssueBody::of(issue, *severity))
                .collect(),
            blocked: planned.blockers(false).next().is_some(),
        }
    }
}
