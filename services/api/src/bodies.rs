//! Conversion of query results into bodies that several endpoints share.

use ledger_api_types::{
    ActorBody, ChangedBody, MarkBody, PlanBody, PlanIssueBody, PlanPointBody, PointBody, ReasonBody, StepBody,
};
use ledger_domain::known_good::{Marked, Reason, Status};
use ledger_domain::plan_issue::{PlanIssue, Severity};
use ledger_domain::{Position, ServiceName, ShortText, TargetName};
use ledger_ingest::Planned;
use ledger_projections::Point;

/// Maximum number of reasons or issues that a response lists; it has the number of all of them.
pub(crate) const MAX_LISTED: usize = 100;

fn mark_body(marked: &Marked) -> MarkBody {
    MarkBody {
        position: marked.position.get(),
        status: Status::from(marked.status).name().to_owned(),
        name: marked.name.as_ref().map(ToString::to_string),
        actor: marked.actor.as_ref().map(ActorBody::from),
        reason: marked.reason.as_ref().map(|reason| reason.as_str().to_owned()),
    }
}

pub(crate) fn point_body(point: &Point) -> PointBody {
    PointBody {
        number: point.number,
        position: point.since.position.get(),
        occurred_at: point.since.occurred_at,
        event_id: point.since.event_id.as_str().to_owned(),
        changed: point
            .changed
            .iter()
            .map(|(service, target)| ChangedBody { service: service.to_string(), target: target.to_string() })
            .collect(),
        until: point.until,
        digest: point.composition.digest(),
        lanes: point.composition.lanes().count(),
        status: point.judgement.status.name().to_owned(),
        reasons: point.judgement.reasons.iter().take(MAX_LISTED).map(reason_body).collect(),
        reason_count: point.judgement.reasons.len(),
        mark: point.marked.as_ref().map(mark_body),
    }
}

fn reason_body(reason: &Reason) -> ReasonBody {
    let general = |name: &str, detail: String, at: Option<Position>| ReasonBody {
        reason: name.to_owned(),
        detail,
        service: None,
        target: None,
        check: None,
        position: at.map(Position::get),
        counts: None,
    };
    let of_lane =
        |general: ReasonBody, service: &ServiceName, target: &TargetName, check: &ShortText| ReasonBody {
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
                    ReasonBody { check, ..general("failed", detail, Some(*position)) }
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
        Reason::Passed { position } => {
            general("passed", "all required checks have passed, and none has failed since".into(), *position)
        }
    }
}

pub(crate) fn plan_issue_body(issue: &PlanIssue, severity: Severity) -> PlanIssueBody {
    let severity = match severity {
        Severity::Warning => "warning",
        Severity::Overridable => "overridable",
        Severity::Fatal => "fatal",
    };
    let position = issue.position().map(Position::get);
    PlanIssueBody {
        kind: issue.name().to_owned(),
        severity: severity.to_owned(),
        detail: issue.to_string(),
        position,
    }
}

pub(crate) fn plan_body(planned: &Planned) -> PlanBody {
    let request = &planned.request;
    let issues = planned.issues.iter().take(MAX_LISTED);
    let status = planned.point.as_ref().map_or(Status::Empty, |point| point.judgement.status);
    PlanBody {
        environment: request.environment.to_string(),
        position: planned.position.get(),
        environment_position: planned.environment_position.get(),
        to: PlanPointBody {
            position: planned.to.get(),
            source: request.source().map(ToString::to_string),
            at: planned.at,
            status: status.name().to_owned(),
            point: planned.point.as_ref().map(point_body),
        },
        policy: planned.policy.declared.map(Position::get),
        plan_digest: planned.plan.digest(),
        steps: planned.plan.steps.iter().map(StepBody::from).collect(),
        result_digest: planned.result.digest(),
        issues: issues.map(|(issue, severity)| plan_issue_body(issue, *severity)).collect(),
        issue_count: planned.issues.len(),
        blocked: planned.blockers(false).next().is_some(),
    }
}
