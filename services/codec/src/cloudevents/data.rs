//! Decodes an event's data, with a function for each kind of object. `encode` is the inverse.

use std::collections::BTreeMap;

use ledger_domain::event::{
    Action, Activity, Actor, Approval, ApprovalSubject, AutomaticRollback, AutomaticScope, Built, Counts,
    Declined, Deploy, Ending, Enforcement, Evidence, Freeze, Incident, IncidentOpening, Link, Mark,
    MarkedStatus, Observation, Observed, Payload, Plan, Policy, Promotion, PromotionTargets, Reinstated,
    ReleasePointId, Removal, Revoked, Rollback, RollbackRequest, RollbackStart, Step, Switch, Validation,
    ValidationSubject,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, Event, EventId, Identity, Kind, LaneFilter, LaneRef, LongText,
    Position, Release, ServiceName, ShortText, SlotName, Source, TargetName,
};

use super::error::Reason;
use super::fields::{Fields, Pointer, text};
use crate::ijson::Json;

mod access;
mod subscription;

type Decoded<T> = Result<T, Reason>;

/// The maximum number of services with declared dependencies in a policy. It bounds the traversal of the dependencies.
const DEPENDENT_LIMIT: usize = 1_000;

pub(super) fn event(kind: Kind, data: &Json<'_>) -> Decoded<Event> {
    let fields = Fields::new(data, Pointer::Data)?;
    let payload = payload(kind, &fields)?;
    // On other kinds it stays unread, so that `finish` rejects it as an unknown member.
    let corrects = if payload.is_correctable() { fields.optional("corrects", identity)? } else { None };
    let event = Event {
        payload,
        actor: fields.optional("actor", actor)?,
        sender: None,
        reason: fields.optional_text("reason", LongText::parse)?,
        links: fields.list("links", link)?,
        corrects,
    };
    let needs_reason = matches!(
        kind,
        Kind::ArtifactRevoked
            | Kind::ArtifactReinstated
            | Kind::RollbackRequested
            | Kind::RollbackDeclined
            | Kind::ReleasePointMarked
            | Kind::ReleasePointRevoked
            | Kind::SubscriptionDisabled
    );
    if needs_reason && event.reason.is_none() {
        return Err(fields.invalid("reason", "is required"));
    }
    if matches!(kind, Kind::ApprovalGranted | Kind::ApprovalRejected) && event.actor.is_none() {
        return Err(fields.invalid("actor", "is required"));
    }
    fields.finish()?;
    Ok(event)
}

fn payload(kind: Kind, fields: &Fields<'_, '_>) -> Decoded<Payload> {
    Ok(match kind {
        Kind::ArtifactBuilt => Payload::ArtifactBuilt(built(fields)?),
        Kind::ArtifactRevoked => Payload::ArtifactRevoked(Revoked {
            artifact: fields.text("artifact", Artifact::stored)?,
            advisory: fields.optional_text("advisory", ShortText::stored)?,
            deleted: fields.optional_bool("deleted")?.unwrap_or(false),
        }),
        Kind::ArtifactReinstated => {
            Payload::ArtifactReinstated(Reinstated { artifact: fields.text("artifact", Artifact::stored)? })
        }
        Kind::DeployStarted => Payload::DeployStarted(deploy(fields)?),
        Kind::DeploySucceeded => Payload::DeploySucceeded(finished_deploy(fields)?),
        Kind::DeployFailed => Payload::DeployFailed(finished_deploy(fields)?),
        Kind::DeployRemoved => Payload::DeployRemoved(Removal {
            lane: lane(fields)?,
            slot: fields.optional_text("slot", SlotName::parse)?,
            deployment: fields.optional_text("deployment", ShortText::stored)?,
            rollback_id: fields.optional_text("rollback_id", ShortText::stored)?,
        }),
        Kind::TrafficSwitched => Payload::TrafficSwitched(Switch {
            lane: lane(fields)?,
            slot: fields.text("slot", SlotName::parse)?,
            deployment: fields.optional_text("deployment", ShortText::stored)?,
            rollback_id: fields.optional_text("rollback_id", ShortText::stored)?,
        }),
        Kind::ValidationStarted => Payload::ValidationStarted(validation(fields)?),
        Kind::ValidationPassed => Payload::ValidationPassed(validation(fields)?),
        Kind::ValidationFailed => Payload::ValidationFailed(validation(fields)?),
        Kind::RollbackRequested => Payload::RollbackRequested(rollback_request(fields)?),
        Kind::RollbackStarted => Payload::RollbackStarted(RollbackStart {
            rollback: rollback(fields)?,
            acknowledge: fields.list("acknowledge", acknowledged_lane)?.into_iter().collect(),
        }),
        Kind::RollbackSucceeded => Payload::RollbackSucceeded(rollback(fields)?),
        Kind::RollbackFailed => Payload::RollbackFailed(rollback(fields)?),
        Kind::RollbackCancelled => Payload::RollbackCancelled(rollback(fields)?),
        Kind::RollbackDeclined => Payload::RollbackDeclined(declined(fields)?),
        Kind::ReleasePointMarked => Payload::ReleasePointMarked(mark(fields)?),
        Kind::ReleasePointRevoked => Payload::ReleasePointRevoked(point_id(fields)?),
        Kind::EnvironmentDeclared => {
            Payload::EnvironmentDeclared(environment(fields)?, fields.required("policy", policy)?)
        }
        Kind::EnvironmentObserved => Payload::EnvironmentObserved(observation(fields)?),
        Kind::EnvironmentRetired => Payload::EnvironmentRetired(environment(fields)?),
        Kind::ApprovalGranted => {
            let expires_at = fields.optional_time("expires_at")?;
            Payload::ApprovalGranted(Approval { subject: approval_subject(fields)?, expires_at })
        }
        Kind::ApprovalRejected => {
            Payload::ApprovalRejected(Approval { subject: approval_subject(fields)?, expires_at: None })
        }
        Kind::FreezeStarted => Payload::FreezeStarted(freeze(fields)?),
        Kind::FreezeLifted => Payload::FreezeLifted(freeze(fields)?),
        Kind::IncidentOpened => Payload::IncidentOpened(incident_opening(fields)?),
        Kind::IncidentResolved => Payload::IncidentResolved(incident(fields)?),
        Kind::ActivityReported => Payload::ActivityReported(Box::new(activity(fields)?)),
        Kind::SubscriptionCreated => Payload::SubscriptionCreated(Box::new(subscription::creation(fields)?)),
        Kind::SubscriptionRemoved => Payload::SubscriptionRemoved(subscription::name(fields)?),
        Kind::SubscriptionDisabled => Payload::SubscriptionDisabled(subscription::disabling(fields)?),
        Kind::TokenCreated => Payload::TokenCreated(access::token_creation(fields)?),
        Kind::TokenRotated => Payload::TokenRotated(access::token_rotation(fields)?),
        Kind::TokenRevoked => Payload::TokenRevoked(access::token(fields)?),
        Kind::GrantAdded => Payload::GrantAdded(Box::new(access::grant(fields)?)),
        Kind::GrantRemoved => Payload::GrantRemoved(access::grant_id(fields)?),
        Kind::TenantCreated => Payload::TenantCreated(access::tenant(fields)?),
        Kind::TenantRetired => Payload::TenantRetired(access::tenant(fields)?),
    })
}

fn declined(fields: &Fields<'_, '_>) -> Decoded<Declined> {
    Ok(Declined {
        environment: environment(fields)?,
        cause: Position::new(fields.number("cause")?),
        policy: fields.optional_number("policy")?.map(Position::new),
    })
}

fn environment(fields: &Fields<'_, '_>) -> Decoded<EnvironmentName> {
    fields.text("environment", EnvironmentName::parse)
}

/// Decodes the lane of a report. A missing target stays unresolved: resolving it requires the service's lanes.
fn lane(fields: &Fields<'_, '_>) -> Decoded<LaneRef> {
    Ok(LaneRef {
        environment: environment(fields)?,
        service: fields.text("service", ServiceName::parse)?,
        target: fields.optional_text("target", TargetName::parse)?,
    })
}

/// Decodes the target of a fully specified lane: `default` if it is left out.
fn target(fields: &Fields<'_, '_>) -> Decoded<TargetName> {
    Ok(fields.optional_text("target", TargetName::parse)?.unwrap_or_default())
}

fn release(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Release> {
    let fields = Fields::new(json, at)?;
    let release = Release {
        version: fields.text("version", ShortText::stored)?,
        artifact: fields.optional_text("artifact", Artifact::stored)?,
        config: fields.optional_text("config", ConfigDigest::parse)?,
        infrastructure: fields.optional_text("infrastructure", ShortText::stored)?,
        commit: fields.optional_text("commit", ShortText::stored)?,
    };
    fields.finish()?;
    Ok(release)
}

fn actor(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Actor> {
    let fields = Fields::new(json, at)?;
    let actor = Actor {
        kind: fields.text("type", ShortText::stored)?,
        name: fields.text("name", ShortText::stored)?,
    };
    fields.finish()?;
    Ok(actor)
}

fn identity(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Identity> {
    let fields = Fields::new(json, at)?;
    let identity =
        Identity { source: fields.text("source", Source::stored)?, id: fields.text("id", EventId::stored)? };
    fields.finish()?;
    Ok(identity)
}

fn link(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Link> {
    let fields = Fields::new(json, at)?;
    let link =
        Link { rel: fields.text("rel", ShortText::stored)?, href: fields.text("href", ShortText::stored)? };
    fields.finish()?;
    Ok(link)
}

fn built(fields: &Fields<'_, '_>) -> Decoded<Built> {
    Ok(Built {
        artifact: fields.text("artifact", Artifact::stored)?,
        version: fields.optional_text("version", ShortText::stored)?,
        commit: fields.optional_text("commit", ShortText::stored)?,
        committed_at: fields.optional_time("committed_at")?,
        builder: fields.optional_text("builder", ShortText::stored)?,
        provenance: fields.optional("provenance", evidence)?,
    })
}

fn evidence(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Evidence> {
    let fields = Fields::new(json, at)?;
    let evidence = Evidence {
        uri: fields.text("uri", ShortText::stored)?,
        digest: fields.optional_text("digest", ConfigDigest::parse)?,
    };
    fields.finish()?;
    Ok(evidence)
}

fn deploy(fields: &Fields<'_, '_>) -> Decoded<Deploy> {
    Ok(Deploy {
        lane: lane(fields)?,
        slot: fields.optional_text("slot", SlotName::parse)?,
        deployment: fields.optional_text("deployment", ShortText::stored)?,
        release: fields.required("release", release)?,
        reversible: fields.optional_bool("reversible")?.unwrap_or(true),
        rollback_id: fields.optional_text("rollback_id", ShortText::stored)?,
        ending: Ending::default(),
    })
}

fn finished_deploy(fields: &Fields<'_, '_>) -> Decoded<Deploy> {
    let ending = Ending {
        duration_ms: fields.optional_number("duration_ms")?,
        exit_code: fields.optional_number("exit_code")?,
    };
    Ok(Deploy { ending, ..deploy(fields)? })
}

fn validation(fields: &Fields<'_, '_>) -> Decoded<Validation> {
    let artifact = fields.optional_text("artifact", Artifact::stored)?;
    let subject = match (artifact, fields.has("environment")) {
        (Some(_), true) => {
            return Err(
                fields.invalid("artifact", "must not be combined with environment; a check has one subject")
            );
        }
        (Some(artifact), false) => ValidationSubject::Artifact(artifact),
        (None, true) if fields.has("service") => ValidationSubject::Lane {
            lane: lane(fields)?,
            release: fields.optional("release", release)?,
            deployment: fields.optional_text("deployment", ShortText::stored)?,
        },
        (None, true) => ValidationSubject::Environment(environment(fields)?),
        (None, false) => {
            return Err(Reason::value(fields.pointer(), "a check requires an artifact or an environment"));
        }
    };
    Ok(Validation {
        check: fields.text("check", ShortText::stored)?,
        subject,
        run: fields.optional_text("run", ShortText::stored)?,
        evidence: fields.list("evidence", evidence)?,
        counts: fields.optional("counts", counts)?,
    })
}

fn counts(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Counts> {
    let fields = Fields::new(json, at)?;
    let counts = Counts {
        passed: fields.optional_number("passed")?.unwrap_or(0),
        failed: fields.optional_number("failed")?.unwrap_or(0),
        skipped: fields.optional_number("skipped")?.unwrap_or(0),
    };
    fields.finish()?;
    Ok(counts)
}

fn rollback(fields: &Fields<'_, '_>) -> Decoded<Rollback> {
    Ok(Rollback {
        environment: environment(fields)?,
        rollback_id: fields.text("rollback_id", ShortText::stored)?,
    })
}

fn acknowledged_lane(json: &Json<'_>, at: Pointer<'_>) -> Decoded<(ServiceName, TargetName)> {
    let fields = Fields::new(json, at)?;
    let lane = (fields.text("service", ServiceName::parse)?, target(&fields)?);
    fields.finish()?;
    Ok(lane)
}

fn rollback_request(fields: &Fields<'_, '_>) -> Decoded<RollbackRequest> {
    Ok(RollbackRequest {
        rollback: rollback(fields)?,
        to: Position::new(fields.number("to")?),
        at: fields.optional_time("at")?,
        source: fields.optional_text("source", EnvironmentName::parse)?,
        scope: LaneFilter {
            services: fields.text_list("services", ServiceName::parse)?.into_iter().collect(),
            targets: fields.text_list("targets", TargetName::parse)?.into_iter().collect(),
        },
        plan: fields.required("plan", plan)?,
        plan_digest: fields.text("plan_digest", ConfigDigest::parse)?,
        initiated_by: fields.required("initiated_by", actor)?,
        automatic: fields.optional_bool("automatic")?.unwrap_or(false),
        force: fields.optional_bool("force")?.unwrap_or(false),
        policy: fields.optional_number("policy")?.map(Position::new),
        cause: fields.optional_number("cause")?.map(Position::new),
    })
}

fn plan(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Plan> {
    let fields = Fields::new(json, at)?;
    let plan = Plan { from: Position::new(fields.number("from")?), steps: fields.list("steps", step)? };
    fields.finish()?;
    Ok(plan)
}

fn step(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Step> {
    let fields = Fields::new(json, at)?;
    let step = Step {
        wave: match fields.number("wave")? {
            0 => return Err(fields.invalid("wave", "must be at least 1")),
            wave => wave,
        },
        service: fields.text("service", ServiceName::parse)?,
        target: target(&fields)?,
        action: fields.text("action", |name| match name {
            "redeploy" => Ok(Action::Redeploy),
            "add" => Ok(Action::Add),
            "remove" => Ok(Action::Remove),
            "switch" => Ok(Action::Switch),
            _ => Err("must be redeploy, add, remove or switch"),
        })?,
        slot: fields.optional_text("slot", SlotName::parse)?,
        from: fields.optional("from", release)?,
        to: fields.optional("to", release)?,
    };
    fields.finish()?;
    Ok(step)
}

fn point_id(fields: &Fields<'_, '_>) -> Decoded<ReleasePointId> {
    Ok(ReleasePointId {
        environment: environment(fields)?,
        position: Position::new(fields.number("position")?),
    })
}

fn mark(fields: &Fields<'_, '_>) -> Decoded<Mark> {
    Ok(Mark {
        point: point_id(fields)?,
        status: fields.text("status", |name| match name {
            "known_good" => Ok(MarkedStatus::KnownGood),
            "bad" => Ok(MarkedStatus::Bad),
            _ => Err("must be known_good or bad"),
        })?,
        name: fields.optional_text("name", ShortText::stored)?,
    })
}

/// Decodes a policy that is the whole document.
pub(super) fn root_policy(json: &Json<'_>) -> Decoded<Policy> {
    policy(json, Pointer::Root)
}

fn policy(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Policy> {
    let fields = Fields::new(json, at)?;
    let policy = Policy {
        required_validations: fields.text_list("required_validations", ShortText::stored)?,
        soak_seconds: fields.optional_number("soak_seconds")?.unwrap_or(0),
        automatic_rollback: fields.optional("automatic_rollback", automatic_rollback)?,
        promotion: fields.optional("promotion", promotion)?,
        approvals: fields.optional_number("approvals")?.unwrap_or(0),
        target_order: fields.text_list("target_order", TargetName::parse)?,
        dependencies: fields.optional("dependencies", dependencies)?.unwrap_or_default(),
        barrier: fields.optional_text("barrier", enforcement)?.unwrap_or_default(),
        freeze: fields.optional_text("freeze", enforcement)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(policy)
}

fn automatic_rollback(json: &Json<'_>, at: Pointer<'_>) -> Decoded<AutomaticRollback> {
    let fields = Fields::new(json, at)?;
    let automatic = AutomaticRollback {
        checks: fields.text_list("checks", ShortText::stored)?,
        cool_down_seconds: fields.optional_number("cool_down_seconds")?.unwrap_or(0),
        at_most_a_day: fields.number("at_most_a_day")?,
        scope: fields.optional_text("scope", automatic_scope)?.unwrap_or_default(),
        at_most_steps: fields
            .optional_number("at_most_steps")?
            .unwrap_or(AutomaticRollback::DEFAULT_AT_MOST_STEPS),
        at_most_age_seconds: fields
            .optional_number("at_most_age_seconds")?
            .unwrap_or(AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS),
    };
    fields.finish()?;
    Ok(automatic)
}

fn automatic_scope(name: &str) -> Result<AutomaticScope, &'static str> {
    match name {
        "service" => Ok(AutomaticScope::Service),
        "environment" => Ok(AutomaticScope::Environment),
        _ => Err("must be service or environment"),
    }
}

fn promotion(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Promotion> {
    let fields = Fields::new(json, at)?;
    let promotion = Promotion {
        from: fields.text_list("from", EnvironmentName::parse)?,
        targets: fields.optional_text("targets", promotion_targets)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(promotion)
}

fn promotion_targets(name: &str) -> Result<PromotionTargets, &'static str> {
    match name {
        "all" => Ok(PromotionTargets::All),
        "any" => Ok(PromotionTargets::Any),
        _ => Err("must be all or any"),
    }
}

fn enforcement(name: &str) -> Result<Enforcement, &'static str> {
    match name {
        "block" => Ok(Enforcement::Block),
        "warn" => Ok(Enforcement::Warn),
        _ => Err("must be block or warn"),
    }
}

fn dependencies(json: &Json<'_>, at: Pointer<'_>) -> Decoded<BTreeMap<ServiceName, Vec<ServiceName>>> {
    let Json::Object(object) = json else {
        return Err(Reason::value(at.to_string(), format!("must be an object, not {}", json.type_phrase())));
    };
    if object.entries().len() > DEPENDENT_LIMIT {
        let detail = format!("has {} members; the maximum is {DEPENDENT_LIMIT}", object.entries().len());
        return Err(Reason::value(at.to_string(), detail));
    }
    object
        .entries()
        .map(|(service, needs)| {
            let at = Pointer::Member(&at, service);
            let name = ServiceName::parse(service).map_err(|error| Reason::value(at.to_string(), error))?;
            let Json::Array(needs) = needs else {
                return Err(Reason::value(
                    at.to_string(),
                    format!("must be an array, not {}", needs.type_phrase()),
                ));
            };
            let needs = needs
                .iter()
                .enumerate()
                .map(|(index, need)| text(need, Pointer::Item(&at, index), ServiceName::parse));
            Ok((name, needs.collect::<Decoded<_>>()?))
        })
        .collect()
}

fn observed(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Observed> {
    let fields = Fields::new(json, at)?;
    let observed = Observed {
        service: fields.text("service", ServiceName::parse)?,
        target: target(&fields)?,
        slot: fields.optional_text("slot", SlotName::parse)?,
        release: fields
            .optional("release", |json, at| match json {
                Json::Null => Ok(None),
                json => release(json, at).map(Some),
            })?
            .flatten(),
    };
    fields.finish()?;
    Ok(observed)
}

fn approval_subject(fields: &Fields<'_, '_>) -> Decoded<ApprovalSubject> {
    Ok(if fields.has("rollback_id") {
        let Rollback { environment, rollback_id } = rollback(fields)?;
        ApprovalSubject::Rollback { environment, rollback_id }
    } else {
        ApprovalSubject::Deploy { lane: lane(fields)?, release: fields.required("release", release)? }
    })
}

fn freeze(fields: &Fields<'_, '_>) -> Decoded<Freeze> {
    Ok(Freeze {
        environment: environment(fields)?,
        freeze_id: fields.text("freeze_id", ShortText::stored)?,
        until: fields.optional_time("until")?,
    })
}

fn observation(fields: &Fields<'_, '_>) -> Decoded<Observation> {
    Ok(Observation {
        environment: environment(fields)?,
        complete: fields.optional_bool("complete")?.unwrap_or(false),
        targets: fields.text_list("targets", TargetName::parse)?.into_iter().collect(),
        lanes: fields.list("lanes", observed)?,
    })
}

fn incident_opening(fields: &Fields<'_, '_>) -> Decoded<IncidentOpening> {
    Ok(IncidentOpening {
        incident: incident(fields)?,
        title: fields.optional_text("title", ShortText::stored)?,
        severity: fields.optional_text("severity", ShortText::stored)?,
        caused_by: fields.optional_number("caused_by")?.map(Position::new),
    })
}

fn incident(fields: &Fields<'_, '_>) -> Decoded<Incident> {
    let (service, target) = part(fields)?;
    Ok(Incident {
        incident_id: fields.text("incident_id", ShortText::stored)?,
        environment: environment(fields)?,
        service,
        target,
    })
}

fn activity(fields: &Fields<'_, '_>) -> Decoded<Activity> {
    let (service, target) = part(fields)?;
    if service.is_some() && !fields.has("environment") {
        return Err(fields.invalid("service", "needs an environment"));
    }
    Ok(Activity {
        activity: fields.text("activity", ShortText::stored)?,
        subject: fields.optional_text("subject", ShortText::stored)?,
        environment: fields.optional_text("environment", EnvironmentName::parse)?,
        service,
        target,
        artifact: fields.optional_text("artifact", Artifact::stored)?,
        commit: fields.optional_text("commit", ShortText::stored)?,
        outcome: fields.optional_text("outcome", ShortText::stored)?,
    })
}

/// Decodes the part of an environment that an event names: a service, and a target of it.
fn part(fields: &Fields<'_, '_>) -> Decoded<(Option<ServiceName>, Option<TargetName>)> {
    let service = fields.optional_text("service", ServiceName::parse)?;
    let target = fields.optional_text("target", TargetName::parse)?;
    match (&service, &target) {
        (None, Some(_)) => Err(fields.invalid("target", "needs a service")),
        _ => Ok((service, target)),
    }
}
