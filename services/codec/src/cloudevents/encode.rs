//! An event of our own, written: the way back from `data`. What has its default value is left out.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::event::{
    Actor, ApprovalSubject, AutomaticRollback, AutomaticScope, Counts, Deploy, Enforcement, Evidence, Freeze,
    MarkedStatus, Observed, Payload, Plan, Policy, Promotion, PromotionTargets, ReleasePointId, Rollback,
    Step, Validation, ValidationSubject,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, Event, Identity, LaneRef, LongText, Position, Release,
    ServiceName, ShortText, SlotName, TargetName,
};

use crate::ijson::{Json, Object};

/// An object being written. Keys are written once each, so that it has no duplicates.
#[derive(Default)]
struct Members<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Members<'a> {
    fn put(mut self, name: &'static str, value: Json<'a>) -> Self {
        self.0.push((name.into(), value));
        self
    }

    fn text(self, name: &'static str, value: &'a str) -> Self {
        self.put(name, Json::String(value.into()))
    }

    fn maybe_text(self, name: &'static str, value: Option<&'a str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    fn maybe(self, name: &'static str, value: Option<Json<'a>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    fn list(self, name: &'static str, items: Vec<Json<'a>>) -> Self {
        if items.is_empty() { self } else { self.put(name, Json::Array(items)) }
    }

    fn maybe_time(self, name: &'static str, time: Option<DateTime<Utc>>) -> Self {
        self.maybe(name, time.map(rfc3339))
    }

    fn count(self, name: &'static str, number: u64) -> Self {
        if number == 0 { self } else { self.put(name, whole(number)) }
    }

    fn object(self) -> Object<'a> {
        Object::from_members(self.0).unwrap_or_default()
    }

    fn json(self) -> Json<'a> {
        Json::Object(self.object())
    }
}

fn rfc3339<'a>(time: DateTime<Utc>) -> Json<'a> {
    Json::String(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
}

/// Domain numbers came from I-JSON or count what is in memory: they fit.
fn whole<'a>(number: u64) -> Json<'a> {
    Json::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> Vec<Json<'a>> {
    items.into_iter().map(|item| Json::String(item.into())).collect()
}

pub(super) fn event<'a>(identity: &'a Identity, occurred_at: DateTime<Utc>, event: &'a Event) -> Object<'a> {
    let subject = match (event.payload.lane(), event.payload.environment()) {
        (Some(lane), _) => Some(Json::String(lane.to_string().into())),
        (None, Some(environment)) => Some(Json::String(environment.as_str().into())),
        (None, None) => None,
    };
    let data = data(&event.payload)
        .maybe("actor", event.actor.as_ref().map(actor))
        .maybe_text("reason", event.reason.as_ref().map(LongText::as_str))
        .list(
            "links",
            event
                .links
                .iter()
                .map(|link| {
                    Members::default().text("rel", link.rel.as_str()).text("href", link.href.as_str()).json()
                })
                .collect(),
        )
        .maybe("corrects", event.corrects.as_ref().map(corrected));
    Members::default()
        .text("specversion", "1.0")
        .text("id", identity.id.as_str())
        .text("source", identity.source.as_str())
        .text("type", event.payload.kind().event_type())
        .put("time", rfc3339(occurred_at))
        .maybe("subject", subject)
        .text("datacontenttype", "application/json")
        .put("data", data.json())
        .object()
}

fn data(payload: &Payload) -> Members<'_> {
    match payload {
        Payload::ArtifactBuilt(built) => Members::default()
            .text("artifact", built.artifact.as_str())
            .maybe_text("version", built.version.as_ref().map(ShortText::as_str))
            .maybe_text("commit", built.commit.as_ref().map(ShortText::as_str))
            .maybe_time("committed_at", built.committed_at)
            .maybe_text("builder", built.builder.as_ref().map(ShortText::as_str))
            .maybe("provenance", built.provenance.as_ref().map(evidence)),
        Payload::ArtifactRevoked(revoked) => Members::default()
            .text("artifact", revoked.artifact.as_str())
            .maybe_text("advisory", revoked.advisory.as_ref().map(ShortText::as_str))
            .maybe("deleted", revoked.deleted.then_some(Json::Bool(true))),
        Payload::ArtifactReinstated(reinstated) => {
            Members::default().text("artifact", reinstated.artifact.as_str())
        }
        Payload::DeployStarted(it) => deploy(it),
        Payload::DeploySucceeded(it) | Payload::DeployFailed(it) => ended_deploy(it),
        Payload::DeployRemoved(removal) => lane(&removal.lane)
            .maybe_text("slot", removal.slot.as_ref().map(SlotName::as_str))
            .maybe_text("deployment", removal.deployment.as_ref().map(ShortText::as_str))
            .maybe_text("rollback_id", removal.rollback_id.as_ref().map(ShortText::as_str)),
        Payload::TrafficSwitched(switch) => lane(&switch.lane)
            .text("slot", switch.slot.as_str())
            .maybe_text("deployment", switch.deployment.as_ref().map(ShortText::as_str))
            .maybe_text("rollback_id", switch.rollback_id.as_ref().map(ShortText::as_str)),
        Payload::ValidationStarted(it) | Payload::ValidationPassed(it) | Payload::ValidationFailed(it) => {
            validation(it)
        }
        Payload::RollbackRequested(request) => rollback(&request.rollback)
            .put("to", whole(request.to.get()))
            .maybe_time("at", request.at)
            .maybe_text("source", request.source.as_ref().map(EnvironmentName::as_str))
            .list("services", texts(request.scope.services.iter().map(ServiceName::as_str)))
            .list("targets", texts(request.scope.targets.iter().map(TargetName::as_str)))
            .put("plan", plan(&request.plan))
            .text("plan_digest", request.plan_digest.as_str())
            .put("initiated_by", actor(&request.initiated_by))
            .maybe("automatic", request.automatic.then_some(Json::Bool(true)))
            .maybe("force", request.force.then_some(Json::Bool(true)))
            .maybe("policy", request.policy.map(position))
            .maybe("cause", request.cause.map(position)),
        Payload::RollbackStarted(start) => rollback(&start.rollback)
            .list("acknowledge", start.acknowledge.iter().map(acknowledged).collect()),
        Payload::RollbackSucceeded(it) | Payload::RollbackFailed(it) | Payload::RollbackCancelled(it) => {
            rollback(it)
        }
        Payload::RollbackDeclined(declined) => Members::default()
            .text("environment", declined.environment.as_str())
            .put("cause", position(declined.cause))
            .maybe("policy", declined.policy.map(position)),
        Payload::ReleasePointMarked(mark) => destination(&mark.point)
            .text(
                "status",
                match mark.status {
                    MarkedStatus::KnownGood => "known_good",
                    MarkedStatus::Bad => "bad",
                },
            )
            .maybe_text("name", mark.name.as_ref().map(ShortText::as_str)),
        Payload::ReleasePointRevoked(point) => destination(point),
        Payload::EnvironmentDeclared(environment, it) => {
            Members::default().text("environment", environment.as_str()).put("policy", policy(it))
        }
        Payload::EnvironmentObserved(observation) => Members::default()
            .text("environment", observation.environment.as_str())
            .maybe("complete", observation.complete.then_some(Json::Bool(true)))
            .list("targets", texts(observation.targets.iter().map(TargetName::as_str)))
            .list("lanes", observation.lanes.iter().map(observed).collect()),
        Payload::EnvironmentRetired(environment) => {
            Members::default().text("environment", environment.as_str())
        }
        Payload::ApprovalGranted(approval) => {
            approval_subject(&approval.subject).maybe_time("expires_at", approval.expires_at)
        }
        Payload::ApprovalRejected(approval) => approval_subject(&approval.subject),
        Payload::FreezeStarted(it) | Payload::FreezeLifted(it) => freeze(it),
    }
}

/// A target that is named is written, be it the default one: it says more than none.
fn lane(lane: &LaneRef) -> Members<'_> {
    Members::default()
        .text("environment", lane.environment.as_str())
        .text("service", lane.service.as_str())
        .maybe_text("target", lane.target.as_ref().map(TargetName::as_str))
}

fn target(target: &TargetName) -> Option<&str> {
    (*target != TargetName::default()).then_some(target.as_str())
}

fn release(release: &Release) -> Json<'_> {
    Members::default()
        .text("version", release.version.as_str())
        .maybe_text("artifact", release.artifact.as_ref().map(Artifact::as_str))
        .maybe_text("config", release.config.as_ref().map(ConfigDigest::as_str))
        .maybe_text("infrastructure", release.infrastructure.as_ref().map(ShortText::as_str))
        .maybe_text("commit", release.commit.as_ref().map(ShortText::as_str))
        .json()
}

fn actor(actor: &Actor) -> Json<'_> {
    Members::default().text("type", actor.kind.as_str()).text("name", actor.name.as_str()).json()
}

fn corrected(identity: &Identity) -> Json<'_> {
    Members::default().text("source", identity.source.as_str()).text("id", identity.id.as_str()).json()
}

fn evidence(evidence: &Evidence) -> Json<'_> {
    Members::default()
        .text("uri", evidence.uri.as_str())
        .maybe_text("digest", evidence.digest.as_ref().map(ConfigDigest::as_str))
        .json()
}

fn deploy(deploy: &Deploy) -> Members<'_> {
    lane(&deploy.lane)
        .maybe_text("slot", deploy.slot.as_ref().map(SlotName::as_str))
        .maybe_text("deployment", deploy.deployment.as_ref().map(ShortText::as_str))
        .put("release", release(&deploy.release))
        .maybe("reversible", (!deploy.reversible).then_some(Json::Bool(false)))
        .maybe_text("rollback_id", deploy.rollback_id.as_ref().map(ShortText::as_str))
}

fn ended_deploy(it: &Deploy) -> Members<'_> {
    deploy(it)
        .maybe("duration_ms", it.ending.duration_ms.map(whole))
        .maybe("exit_code", it.ending.exit_code.map(|code| whole(code.into())))
}

fn validation(validation: &Validation) -> Members<'_> {
    let subject = match &validation.subject {
        ValidationSubject::Artifact(artifact) => Members::default().text("artifact", artifact.as_str()),
        ValidationSubject::Environment(environment) => {
            Members::default().text("environment", environment.as_str())
        }
        ValidationSubject::Lane { lane: it, release: what, deployment } => lane(it)
            .maybe("release", what.as_ref().map(release))
            .maybe_text("deployment", deployment.as_ref().map(ShortText::as_str)),
    };
    subject
        .text("check", validation.check.as_str())
        .maybe_text("run", validation.run.as_ref().map(ShortText::as_str))
        .list("evidence", validation.evidence.iter().map(evidence).collect())
        .maybe("counts", validation.counts.map(counts))
}

fn counts<'a>(counts: Counts) -> Json<'a> {
    Members::default()
        .put("passed", whole(counts.passed))
        .put("failed", whole(counts.failed))
        .put("skipped", whole(counts.skipped))
        .json()
}

fn rollback(rollback: &Rollback) -> Members<'_> {
    Members::default()
        .text("environment", rollback.environment.as_str())
        .text("rollback_id", rollback.rollback_id.as_str())
}

fn acknowledged((service, at): &(ServiceName, TargetName)) -> Json<'_> {
    Members::default().text("service", service.as_str()).maybe_text("target", target(at)).json()
}

fn plan(plan: &Plan) -> Json<'_> {
    Members::default()
        .put("from", position(plan.from))
        .put("steps", Json::Array(plan.steps.iter().map(step).collect()))
        .json()
}

/// A step always names its target: a report that leaves it out goes to the only target that the service has, and to none where it
/// has several.
fn step(step: &Step) -> Json<'_> {
    Members::default()
        .put("wave", whole(step.wave.into()))
        .text("service", step.service.as_str())
        .text("target", step.target.as_str())
        .text("action", step.action.name())
        .maybe_text("slot", step.slot.as_ref().map(SlotName::as_str))
        .maybe("from", step.from.as_ref().map(release))
        .maybe("to", step.to.as_ref().map(release))
        .json()
}

fn position<'a>(position: Position) -> Json<'a> {
    whole(position.get())
}

fn destination(point: &ReleasePointId) -> Members<'_> {
    Members::default()
        .text("environment", point.environment.as_str())
        .put("position", position(point.position))
}

pub(super) fn policy_bytes(it: &Policy) -> Vec<u8> {
    policy_members(it).object().canonical()
}

fn policy(it: &Policy) -> Json<'_> {
    policy_members(it).json()
}

fn policy_members(policy: &Policy) -> Members<'_> {
    let dependencies = policy.dependencies.iter().map(|(service, needs)| {
        (service.as_str().into(), Json::Array(texts(needs.iter().map(|name| name.as_str()))))
    });
    let dependencies = Members(dependencies.collect());
    Members::default()
        .list("required_validations", texts(policy.required_validations.iter().map(ShortText::as_str)))
        .count("soak_seconds", policy.soak_seconds)
        .maybe("automatic_rollback", policy.automatic_rollback.as_ref().map(automatic_rollback))
        .maybe("promotion", policy.promotion.as_ref().map(promotion))
        .count("approvals", policy.approvals.into())
        .list("target_order", texts(policy.target_order.iter().map(TargetName::as_str)))
        .maybe("dependencies", (!dependencies.0.is_empty()).then(|| dependencies.json()))
        .maybe_text("barrier", hindrance(policy.barrier))
        .maybe_text("freeze", hindrance(policy.freeze))
}

fn automatic_rollback(automatic: &AutomaticRollback) -> Json<'_> {
    let scope = match automatic.scope {
        AutomaticScope::Service => None,
        AutomaticScope::Environment => Some("environment"),
    };
    let (steps, age) = (automatic.at_most_steps, automatic.at_most_age_seconds);
    let unless = |default, number| (number != default).then(|| whole(number));
    Members::default()
        .list("checks", texts(automatic.checks.iter().map(ShortText::as_str)))
        .count("cool_down_seconds", automatic.cool_down_seconds)
        .put("at_most_a_day", whole(automatic.at_most_a_day.into()))
        .maybe_text("scope", scope)
        .maybe("at_most_steps", unless(AutomaticRollback::DEFAULT_AT_MOST_STEPS.into(), steps.into()))
        .maybe("at_most_age_seconds", unless(AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS, age))
        .json()
}

fn promotion(promotion: &Promotion) -> Json<'_> {
    let targets = match promotion.targets {
        PromotionTargets::All => None,
        PromotionTargets::Any => Some("any"),
    };
    Members::default()
        .list("from", texts(promotion.from.iter().map(|name| name.as_str())))
        .maybe_text("targets", targets)
        .json()
}

fn approval_subject(subject: &ApprovalSubject) -> Members<'_> {
    match subject {
        ApprovalSubject::Rollback { environment, rollback_id } => Members::default()
            .text("environment", environment.as_str())
            .text("rollback_id", rollback_id.as_str()),
        ApprovalSubject::Deploy { lane: it, release: what } => lane(it).put("release", release(what)),
    }
}

fn hindrance(hindrance: Enforcement) -> Option<&'static str> {
    match hindrance {
        Enforcement::Block => None,
        Enforcement::Warn => Some("warn"),
    }
}

fn observed(observed: &Observed) -> Json<'_> {
    Members::default()
        .text("service", observed.service.as_str())
        .maybe_text("target", target(&observed.target))
        .maybe_text("slot", observed.slot.as_ref().map(SlotName::as_str))
        .put("release", observed.release.as_ref().map_or(Json::Null, release))
        .json()
}

fn freeze(freeze: &Freeze) -> Members<'_> {
    Members::default()
        .text("environment", freeze.environment.as_str())
        .text("freeze_id", freeze.freeze_id.as_str())
        .maybe_time("until", freeze.until)
}
