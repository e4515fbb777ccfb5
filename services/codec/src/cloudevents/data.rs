//! An event's data, read: one function a family. `encode` is the way back.

use std::collections::BTreeMap;

use ledger_domain::event::{
    Action, Actor, Approval, ApprovalSubject, AutomaticRollback, AutomaticScope, Built, Counts, Declined,
    Deploy, Ending, Enforcement, Evidence, Freeze, Link, Mark, MarkedStatus, Observation, Observed, Payload,
    Plan, Policy, Promotion, PromotionTargets, Reinstated, ReleasePointId, Removal, Revoked, Rollback,
    RollbackRequest, RollbackStart, Step, Switch, Validation, ValidationSubject,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, Event, EventId, Identity, Kind, LaneFilter, LaneRef, LongText,
    Position, Release, ServiceName, ShortText, SlotName, Source, TargetName,
};

use super::Reason;
use super::fields::{Fields, Pointer, text};
use crate::ijson::Json;

type Read<T> = Result<T, Reason>;

/// Services of which a policy may say what they depend on: whoever follows them step by step comes to an end.
const DEPENDENTS: usize = 1_000;

pub(super) fn event(kind: Kind, data: &Json<'_>) -> Read<Event> {
    let fields = Fields::of(data, Pointer::Data)?;
    let payload = payload(kind, &fields)?;
    // Left unread, it is refused as a member that the event does not know.
    let corrects = if payload.is_correctable() { fields.maybe("corrects", identity)? } else { None };
    let event = Event {
        payload,
        actor: fields.maybe("actor", actor)?,
        reason: fields.maybe_text("reason", LongText::parse)?,
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
    );
    if needs_reason && event.reason.is_none() {
        return Err(fields.wrong("reason", "is required"));
    }
    if matches!(kind, Kind::ApprovalGranted | Kind::ApprovalRejected) && event.actor.is_none() {
        return Err(fields.wrong("actor", "is required"));
    }
    fields.finish()?;
    Ok(event)
}

fn payload(kind: Kind, fields: &Fields<'_, '_>) -> Read<Payload> {
    Ok(match kind {
        Kind::ArtifactBuilt => Payload::ArtifactBuilt(built(fields)?),
        Kind::ArtifactRevoked => Payload::ArtifactRevoked(Revoked {
            artifact: fields.text("artifact", Artifact::stored)?,
            advisory: fields.maybe_text("advisory", ShortText::stored)?,
            deleted: fields.maybe_bool("deleted")?.unwrap_or(false),
        }),
        Kind::ArtifactReinstated => {
            Payload::ArtifactReinstated(Reinstated { artifact: fields.text("artifact", Artifact::stored)? })
        }
        Kind::DeployStarted => Payload::DeployStarted(deploy(fields)?),
        Kind::DeploySucceeded => Payload::DeploySucceeded(ended_deploy(fields)?),
        Kind::DeployFailed => Payload::DeployFailed(ended_deploy(fields)?),
        Kind::DeployRemoved => Payload::DeployRemoved(Removal {
            lane: lane(fields)?,
            slot: fields.maybe_text("slot", SlotName::parse)?,
            deployment: fields.maybe_text("deployment", ShortText::stored)?,
            rollback_id: fields.maybe_text("rollback_id", ShortText::stored)?,
        }),
        Kind::TrafficSwitched => Payload::TrafficSwitched(Switch {
            lane: lane(fields)?,
            slot: fields.text("slot", SlotName::parse)?,
            deployment: fields.maybe_text("deployment", ShortText::stored)?,
            rollback_id: fields.maybe_text("rollback_id", ShortText::stored)?,
        }),
        Kind::ValidationStarted => Payload::ValidationStarted(validation(fields)?),
        Kind::ValidationPassed => Payload::ValidationPassed(validation(fields)?),
        Kind::ValidationFailed => Payload::ValidationFailed(validation(fields)?),
        Kind::RollbackRequested => Payload::RollbackRequested(rollback_request(fields)?),
        Kind::RollbackStarted => Payload::RollbackStarted(RollbackStart {
            rollback: rollback(fields)?,
            acknowledge: fields.list("acknowledge", acknowledged)?.into_iter().collect(),
        }),
        Kind::RollbackSucceeded => Payload::RollbackSucceeded(rollback(fields)?),
        Kind::RollbackFailed => Payload::RollbackFailed(rollback(fields)?),
        Kind::RollbackCancelled => Payload::RollbackCancelled(rollback(fields)?),
        Kind::RollbackDeclined => Payload::RollbackDeclined(Declined {
            environment: environment(fields)?,
            cause: Position::new(fields.number("cause")?),
            policy: fields.maybe_number("policy")?.map(Position::new),
        }),
        Kind::ReleasePointMarked => Payload::ReleasePointMarked(mark(fields)?),
        Kind::ReleasePointRevoked => Payload::ReleasePointRevoked(destination(fields)?),
        Kind::EnvironmentDeclared => {
            Payload::EnvironmentDeclared(environment(fields)?, fields.member("policy", policy)?)
        }
        Kind::EnvironmentObserved => Payload::EnvironmentObserved(Observation {
            environment: environment(fields)?,
            complete: fields.maybe_bool("complete")?.unwrap_or(false),
            targets: fields.list_of_texts("targets", TargetName::parse)?.into_iter().collect(),
            lanes: fields.list("lanes", observed)?,
        }),
        Kind::EnvironmentRetired => Payload::EnvironmentRetired(environment(fields)?),
        Kind::ApprovalGranted => {
            let expires_at = fields.maybe_time("expires_at")?;
            Payload::ApprovalGranted(Approval { subject: approval_subject(fields)?, expires_at })
        }
        Kind::ApprovalRejected => {
            Payload::ApprovalRejected(Approval { subject: approval_subject(fields)?, expires_at: None })
        }
        Kind::FreezeStarted => Payload::FreezeStarted(freeze(fields)?),
        Kind::FreezeLifted => Payload::FreezeLifted(freeze(fields)?),
    })
}

fn environment(fields: &Fields<'_, '_>) -> Read<EnvironmentName> {
    fields.text("environment", EnvironmentName::parse)
}

/// The lane of a report: a target that it does not name is not known here.
fn lane(fields: &Fields<'_, '_>) -> Read<LaneRef> {
    Ok(LaneRef {
        environment: environment(fields)?,
        service: fields.text("service", ServiceName::parse)?,
        target: fields.maybe_text("target", TargetName::parse)?,
    })
}

/// The target of a lane that is named in full: `default` where it is left out.
fn target(fields: &Fields<'_, '_>) -> Read<TargetName> {
    Ok(fields.maybe_text("target", TargetName::parse)?.unwrap_or_default())
}

fn release(json: &Json<'_>, at: Pointer<'_>) -> Read<Release> {
    let fields = Fields::of(json, at)?;
    let release = Release {
        version: fields.text("version", ShortText::stored)?,
        artifact: fields.maybe_text("artifact", Artifact::stored)?,
        config: fields.maybe_text("config", ConfigDigest::parse)?,
        infrastructure: fields.maybe_text("infrastructure", ShortText::stored)?,
        commit: fields.maybe_text("commit", ShortText::stored)?,
    };
    fields.finish()?;
    Ok(release)
}

fn actor(json: &Json<'_>, at: Pointer<'_>) -> Read<Actor> {
    let fields = Fields::of(json, at)?;
    let actor = Actor {
        kind: fields.text("type", ShortText::stored)?,
        name: fields.text("name", ShortText::stored)?,
    };
    fields.finish()?;
    Ok(actor)
}

fn identity(json: &Json<'_>, at: Pointer<'_>) -> Read<Identity> {
    let fields = Fields::of(json, at)?;
    let identity =
        Identity { source: fields.text("source", Source::stored)?, id: fields.text("id", EventId::stored)? };
    fields.finish()?;
    Ok(identity)
}

fn link(json: &Json<'_>, at: Pointer<'_>) -> Read<Link> {
    let fields = Fields::of(json, at)?;
    let link =
        Link { rel: fields.text("rel", ShortText::stored)?, href: fields.text("href", ShortText::stored)? };
    fields.finish()?;
    Ok(link)
}

fn built(fields: &Fields<'_, '_>) -> Read<Built> {
    Ok(Built {
        artifact: fields.text("artifact", Artifact::stored)?,
        version: fields.maybe_text("version", ShortText::stored)?,
        commit: fields.maybe_text("commit", ShortText::stored)?,
        committed_at: fields.maybe_time("committed_at")?,
        builder: fields.maybe_text("builder", ShortText::stored)?,
        provenance: fields.maybe("provenance", evidence)?,
    })
}

fn evidence(json: &Json<'_>, at: Pointer<'_>) -> Read<Evidence> {
    let fields = Fields::of(json, at)?;
    let evidence = Evidence {
        uri: fields.text("uri", ShortText::stored)?,
        digest: fields.maybe_text("digest", ConfigDigest::parse)?,
    };
    fields.finish()?;
    Ok(evidence)
}

fn deploy(fields: &Fields<'_, '_>) -> Read<Deploy> {
    Ok(Deploy {
        lane: lane(fields)?,
        slot: fields.maybe_text("slot", SlotName::parse)?,
        deployment: fields.maybe_text("deployment", ShortText::stored)?,
        release: fields.member("release", release)?,
        reversible: fields.maybe_bool("reversible")?.unwrap_or(true),
        rollback_id: fields.maybe_text("rollback_id", ShortText::stored)?,
        ending: Ending::default(),
    })
}

fn ended_deploy(fields: &Fields<'_, '_>) -> Read<Deploy> {
    let ending = Ending {
        duration_ms: fields.maybe_number("duration_ms")?,
        exit_code: fields.maybe_number("exit_code")?,
    };
    Ok(Deploy { ending, ..deploy(fields)? })
}

fn validation(fields: &Fields<'_, '_>) -> Read<Validation> {
    let artifact = fields.maybe_text("artifact", Artifact::stored)?;
    let subject = match (artifact, fields.has("environment")) {
        (Some(_), true) => {
            return Err(
                fields.wrong("artifact", "a check is of an artifact or of an environment, not of both")
            );
        }
        (Some(artifact), false) => ValidationSubject::Artifact(artifact),
        (None, true) if fields.has("service") => ValidationSubject::Lane {
            lane: lane(fields)?,
            release: fields.maybe("release", release)?,
            deployment: fields.maybe_text("deployment", ShortText::stored)?,
        },
        (None, true) => ValidationSubject::Environment(environment(fields)?),
        (None, false) => {
            return Err(Reason::value(fields.at(), "a check names its artifact, or its environment"));
        }
    };
    Ok(Validation {
        check: fields.text("check", ShortText::stored)?,
        subject,
        run: fields.maybe_text("run", ShortText::stored)?,
        evidence: fields.list("evidence", evidence)?,
        counts: fields.maybe("counts", counts)?,
    })
}

fn counts(json: &Json<'_>, at: Pointer<'_>) -> Read<Counts> {
    let fields = Fields::of(json, at)?;
    let counts = Counts {
        passed: fields.maybe_number("passed")?.unwrap_or(0),
        failed: fields.maybe_number("failed")?.unwrap_or(0),
        skipped: fields.maybe_number("skipped")?.unwrap_or(0),
    };
    fields.finish()?;
    Ok(counts)
}

fn rollback(fields: &Fields<'_, '_>) -> Read<Rollback> {
    Ok(Rollback {
        environment: environment(fields)?,
        rollback_id: fields.text("rollback_id", ShortText::stored)?,
    })
}

fn acknowledged(json: &Json<'_>, at: Pointer<'_>) -> Read<(ServiceName, TargetName)> {
    let fields = Fields::of(json, at)?;
    let lane = (fields.text("service", ServiceName::parse)?, target(&fields)?);
    fields.finish()?;
    Ok(lane)
}

fn rollback_request(fields: &Fields<'_, '_>) -> Read<RollbackRequest> {
    Ok(RollbackRequest {
        rollback: rollback(fields)?,
        to: Position::new(fields.number("to")?),
        at: fields.maybe_time("at")?,
        source: fields.maybe_text("source", EnvironmentName::parse)?,
        scope: LaneFilter {
            services: fields.list_of_texts("services", ServiceName::parse)?.into_iter().collect(),
            targets: fields.list_of_texts("targets", TargetName::parse)?.into_iter().collect(),
        },
        plan: fields.member("plan", plan)?,
        plan_digest: fields.text("plan_digest", ConfigDigest::parse)?,
        initiated_by: fields.member("initiated_by", actor)?,
        automatic: fields.maybe_bool("automatic")?.unwrap_or(false),
        force: fields.maybe_bool("force")?.unwrap_or(false),
        policy: fields.maybe_number("policy")?.map(Position::new),
        cause: fields.maybe_number("cause")?.map(Position::new),
    })
}

fn plan(json: &Json<'_>, at: Pointer<'_>) -> Read<Plan> {
    let fields = Fields::of(json, at)?;
    let plan = Plan { from: Position::new(fields.number("from")?), steps: fields.list("steps", step)? };
    fields.finish()?;
    Ok(plan)
}

fn step(json: &Json<'_>, at: Pointer<'_>) -> Read<Step> {
    let fields = Fields::of(json, at)?;
    let step = Step {
        wave: match fields.number("wave")? {
            0 => return Err(fields.wrong("wave", "is counted from 1")),
            wave => wave,
        },
        service: fields.text("service", ServiceName::parse)?,
        target: target(&fields)?,
        action: fields.text("action", |word| match word {
            "redeploy" => Ok(Action::Redeploy),
            "add" => Ok(Action::Add),
            "remove" => Ok(Action::Remove),
            "switch" => Ok(Action::Switch),
            _ => Err("must be redeploy, add, remove or switch"),
        })?,
        slot: fields.maybe_text("slot", SlotName::parse)?,
        from: fields.maybe("from", release)?,
        to: fields.maybe("to", release)?,
    };
    fields.finish()?;
    Ok(step)
}

fn destination(fields: &Fields<'_, '_>) -> Read<ReleasePointId> {
    Ok(ReleasePointId {
        environment: environment(fields)?,
        position: Position::new(fields.number("position")?),
    })
}

fn mark(fields: &Fields<'_, '_>) -> Read<Mark> {
    Ok(Mark {
        point: destination(fields)?,
        status: fields.text("status", |word| match word {
            "known_good" => Ok(MarkedStatus::KnownGood),
            "bad" => Ok(MarkedStatus::Bad),
            _ => Err("must be known_good or bad"),
        })?,
        name: fields.maybe_text("name", ShortText::stored)?,
    })
}

/// A policy by itself.
pub(super) fn whole_policy(json: &Json<'_>) -> Read<Policy> {
    policy(json, Pointer::Root)
}

fn policy(json: &Json<'_>, at: Pointer<'_>) -> Read<Policy> {
    let fields = Fields::of(json, at)?;
    let policy = Policy {
        required_validations: fields.list_of_texts("required_validations", ShortText::stored)?,
        soak_seconds: fields.maybe_number("soak_seconds")?.unwrap_or(0),
        automatic_rollback: fields.maybe("automatic_rollback", automatic_rollback)?,
        promotion: fields.maybe("promotion", promotion)?,
        approvals: fields.maybe_number("approvals")?.unwrap_or(0),
        target_order: fields.list_of_texts("target_order", TargetName::parse)?,
        dependencies: fields.maybe("dependencies", dependencies)?.unwrap_or_default(),
        barrier: fields.maybe_text("barrier", hindrance)?.unwrap_or_default(),
        freeze: fields.maybe_text("freeze", hindrance)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(policy)
}

fn automatic_rollback(json: &Json<'_>, at: Pointer<'_>) -> Read<AutomaticRollback> {
    let fields = Fields::of(json, at)?;
    let automatic = AutomaticRollback {
        checks: fields.list_of_texts("checks", ShortText::stored)?,
        cool_down_seconds: fields.maybe_number("cool_down_seconds")?.unwrap_or(0),
        at_most_a_day: fields.number("at_most_a_day")?,
        scope: fields.maybe_text("scope", automatic_scope)?.unwrap_or_default(),
        at_most_steps: fields
            .maybe_number("at_most_steps")?
            .unwrap_or(AutomaticRollback::DEFAULT_AT_MOST_STEPS),
        at_most_age_seconds: fields
            .maybe_number("at_most_age_seconds")?
            .unwrap_or(AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS),
    };
    fields.finish()?;
    Ok(automatic)
}

fn automatic_scope(word: &str) -> Result<AutomaticScope, &'static str> {
    match word {
        "service" => Ok(AutomaticScope::Service),
        "environment" => Ok(AutomaticScope::Environment),
        _ => Err("must be service or environment"),
    }
}

fn promotion(json: &Json<'_>, at: Pointer<'_>) -> Read<Promotion> {
    let fields = Fields::of(json, at)?;
    let promotion = Promotion {
        from: fields.list_of_texts("from", EnvironmentName::parse)?,
        targets: fields.maybe_text("targets", promotion_targets)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(promotion)
}

fn promotion_targets(word: &str) -> Result<PromotionTargets, &'static str> {
    match word {
        "all" => Ok(PromotionTargets::All),
        "any" => Ok(PromotionTargets::Any),
        _ => Err("must be all or any"),
    }
}

fn hindrance(word: &str) -> Result<Enforcement, &'static str> {
    match word {
        "block" => Ok(Enforcement::Block),
        "warn" => Ok(Enforcement::Warn),
        _ => Err("must be block or warn"),
    }
}

fn dependencies(json: &Json<'_>, at: Pointer<'_>) -> Read<BTreeMap<ServiceName, Vec<ServiceName>>> {
    let Json::Object(object) = json else {
        return Err(Reason::value(at.to_string(), format!("must be an object, not {}", json.noun())));
    };
    if object.entries().len() > DEPENDENTS {
        let detail = format!("has {} members, at most {DEPENDENTS} are allowed", object.entries().len());
        return Err(Reason::value(at.to_string(), detail));
    }
    object
        .entries()
        .map(|(service, needs)| {
            let at = Pointer::Member(&at, service);
            let name = ServiceName::parse(service).map_err(|error| Reason::value(at.to_string(), error))?;
            let Json::Array(needs) = needs else {
                return Err(Reason::value(at.to_string(), format!("must be an array, not {}", needs.noun())));
            };
            let needs = needs
                .iter()
                .enumerate()
                .map(|(index, need)| text(need, Pointer::Item(&at, index), ServiceName::parse));
            Ok((name, needs.collect::<Read<_>>()?))
        })
        .collect()
}

fn observed(json: &Json<'_>, at: Pointer<'_>) -> Read<Observed> {
    let fields = Fields::of(json, at)?;
    let observed = Observed {
        service: fields.text("service", ServiceName::parse)?,
        target: target(&fields)?,
        slot: fields.maybe_text("slot", SlotName::parse)?,
        release: fields
            .maybe("release", |json, at| match json {
                Json::Null => Ok(None),
                json => release(json, at).map(Some),
            })?
            .flatten(),
    };
    fields.finish()?;
    Ok(observed)
}

fn approval_subject(fields: &Fields<'_, '_>) -> Read<ApprovalSubject> {
    Ok(if fields.has("rollback_id") {
        let Rollback { environment, rollback_id } = rollback(fields)?;
        ApprovalSubject::Rollback { environment, rollback_id }
    } else {
        ApprovalSubject::Deploy { lane: lane(fields)?, release: fields.member("release", release)? }
    })
}

fn freeze(fields: &Fields<'_, '_>) -> Read<Freeze> {
    Ok(Freeze {
        environment: environment(fields)?,
        freeze_id: fields.text("freeze_id", ShortText::stored)?,
        until: fields.maybe_time("until")?,
    })
}
