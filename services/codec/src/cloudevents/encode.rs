//! Encodes an event that the ledger itself produces: the inverse of `data`. Members with default values are left out.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::access::{Grant, Grantee, Pattern};
use ledger_domain::event::{
    Activity, Actor, ApprovalSubject, AutomaticRollback, AutomaticScope, Built, Counts, Deploy, Enforcement,
    Evidence, Freeze, Incident, Mark, MarkedStatus, Observation, Observed, Payload, Plan, Policy, Promotion,
    PromotionTargets, ReleasePointId, Rollback, RollbackRequest, Step, Subscription, SubscriptionDisabling,
    SubscriptionFilter, TokenCreation, TokenRotation, Validation, ValidationSubject,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, Event, Identity, LaneRef, LongText, Position, Release,
    ServiceName, ShortText, SlotName, TargetName,
};

use super::principal;
use crate::ijson::{Json, Object};

/// A builder of an object. Callers write each key once, so that there are no duplicates.
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

    fn optional_text(self, name: &'static str, value: Option<&'a str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    fn optional(self, name: &'static str, value: Option<Json<'a>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    fn nonempty_list(self, name: &'static str, items: Vec<Json<'a>>) -> Self {
        if items.is_empty() { self } else { self.put(name, Json::Array(items)) }
    }

    fn optional_time(self, name: &'static str, time: Option<DateTime<Utc>>) -> Self {
        self.optional(name, time.map(rfc3339))
    }

    fn nonzero(self, name: &'static str, number: u64) -> Self {
        if number == 0 { self } else { self.put(name, integer(number)) }
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

/// Encodes a number. Domain numbers come from I-JSON or count values in memory, so they fit.
fn integer<'a>(number: u64) -> Json<'a> {
    Json::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Vec<Json<'a>> {
    items.into_iter().map(|item| Json::String(item.into())).collect()
}

pub(super) fn event<'a>(identity: &'a Identity, occurred_at: DateTime<Utc>, event: &'a Event) -> Object<'a> {
    let subject = match (event.payload.lane(), event.payload.environment()) {
        (Some(lane), _) => Some(Json::String(lane.to_string().into())),
        (None, Some(environment)) => Some(Json::String(environment.as_str().into())),
        (None, None) => None,
    };
    let claimed_actor = match &event.sender {
        Some(sender) => sender.claimed_actor.as_ref(),
        None => event.actor.as_ref(),
    };
    let sender =
        event.sender.as_ref().map(|sender| Json::String(principal::encode(&sender.principal).into()));
    let data = data(&event.payload)
        .optional("actor", claimed_actor.map(actor))
        .optional_text("reason", event.reason.as_ref().map(LongText::as_str))
        .nonempty_list(
            "links",
            event
                .links
                .iter()
                .map(|link| {
                    Members::default().text("rel", link.rel.as_str()).text("href", link.href.as_str()).json()
                })
                .collect(),
        )
        .optional("corrects", event.corrects.as_ref().map(identity_object));
    Members::default()
        .text("specversion", "1.0")
        .text("id", identity.id.as_str())
        .text("source", identity.source.as_str())
        .text("type", event.payload.kind().event_type())
        .put("time", rfc3339(occurred_at))
        .optional("subject", subject)
        .text("datacontenttype", "application/json")
        .optional(principal::ATTRIBUTE, sender)
        .put("data", data.json())
        .object()
}

fn data(payload: &Payload) -> Members<'_> {
    match payload {
        Payload::ArtifactBuilt(it) => built_artifact(it),
        Payload::ArtifactRevoked(revoked) => Members::default()
            .text("artifact", revoked.artifact.as_str())
            .optional_text("advisory", revoked.advisory.as_ref().map(ShortText::as_str))
            .optional("deleted", revoked.deleted.then_some(Json::Bool(true))),
        Payload::ArtifactReinstated(reinstated) => {
            Members::default().text("artifact", reinstated.artifact.as_str())
        }
        Payload::DeployStarted(it) => deploy(it),
        Payload::DeploySucceeded(it) | Payload::DeployFailed(it) => finished_deploy(it),
        Payload::DeployRemoved(removal) => lane(&removal.lane)
            .optional_text("slot", removal.slot.as_ref().map(SlotName::as_str))
            .optional_text("deployment", removal.deployment.as_ref().map(ShortText::as_str))
            .optional_text("rollback_id", removal.rollback_id.as_ref().map(ShortText::as_str)),
        Payload::TrafficSwitched(switch) => lane(&switch.lane)
            .text("slot", switch.slot.as_str())
            .optional_text("deployment", switch.deployment.as_ref().map(ShortText::as_str))
            .optional_text("rollback_id", switch.rollback_id.as_ref().map(ShortText::as_str)),
        Payload::ValidationStarted(it) | Payload::ValidationPassed(it) | Payload::ValidationFailed(it) => {
            validation(it)
        }
        Payload::RollbackRequested(it) => rollback_request(it),
        Payload::RollbackStarted(start) => rollback(&start.rollback)
            .nonempty_list("acknowledge", start.acknowledge.iter().map(acknowledged_lane).collect()),
        Payload::RollbackSucceeded(it) | Payload::RollbackFailed(it) | Payload::RollbackCancelled(it) => {
            rollback(it)
        }
        Payload::RollbackDeclined(declined) => Members::default()
            .text("environment", declined.environment.as_str())
            .put("cause", position(declined.cause))
            .optional("policy", declined.policy.map(position)),
        Payload::ReleasePointMarked(it) => mark(it),
        Payload::ReleasePointRevoked(point) => point_id(point),
        Payload::EnvironmentDeclared(environment, it) => {
            Members::default().text("environment", environment.as_str()).put("policy", policy(it))
        }
        Payload::EnvironmentObserved(it) => observation(it),
        Payload::EnvironmentRetired(environment) => {
            Members::default().text("environment", environment.as_str())
        }
        Payload::ApprovalGranted(approval) => {
            approval_subject(&approval.subject).optional_time("expires_at", approval.expires_at)
        }
        Payload::ApprovalRejected(approval) => approval_subject(&approval.subject),
        Payload::FreezeStarted(it) | Payload::FreezeLifted(it) => freeze(it),
        Payload::IncidentOpened(opening) => incident(&opening.incident)
            .optional_text("title", opening.title.as_ref().map(ShortText::as_str))
            .optional_text("severity", opening.severity.as_ref().map(ShortText::as_str))
            .optional("caused_by", opening.caused_by.map(position)),
        Payload::IncidentResolved(it) => incident(it),
        Payload::ActivityReported(it) => activity(it),
        Payload::SubscriptionCreated(it) => subscription(it),
        Payload::SubscriptionRemoved(name) => Members::default().text("subscription", name.as_str()),
        Payload::SubscriptionDisabled(it) => disabling(it),
        Payload::TokenCreated(creation) => token_creation(creation),
        Payload::TokenRotated(rotation) => token_rotation(rotation),
        Payload::TokenRevoked(token) => Members::default().text("token", token.as_str()),
        Payload::GrantAdded(it) => grant(it),
        Payload::GrantRemoved(id) => Members::default().text("grant", id.as_str()),
        Payload::TenantCreated(tenant) | Payload::TenantRetired(tenant) => {
            Members::default().text("tenant", tenant.as_str())
        }
    }
}

fn token_creation(creation: &TokenCreation) -> Members<'_> {
    Members::default()
        .text("token", creation.token.as_str())
        .text("kind", creation.kind.name())
        .text("name", creation.name.as_str())
        .put("hash", Json::String(creation.hash.to_string().into()))
        .optional_time("expires_at", creation.expires_at)
}

fn token_rotation(rotation: &TokenRotation) -> Members<'_> {
    Members::default()
        .text("token", rotation.token.as_str())
        .put("hash", Json::String(rotation.hash.to_string().into()))
        .put("previous_until", rfc3339(rotation.previous_until))
}

fn subscription(subscription: &Subscription) -> Members<'_> {
    let SubscriptionFilter { environment, service, types } = &subscription.filter;
    let filter = Members::default()
        .optional_text("environment", environment.as_ref().map(EnvironmentName::as_str))
        .optional_text("service", service.as_ref().map(ServiceName::as_str))
        .nonempty_list("types", strings(types.iter().map(|kind| kind.name())));
    let is_filtered = subscription.filter != SubscriptionFilter::default();
    Members::default()
        .text("subscription", subscription.name.as_str())
        .text("url", subscription.url.as_str())
        .text("secret", subscription.secret.as_str())
        .optional("filter", is_filtered.then(|| filter.json()))
}

fn disabling(disabling: &SubscriptionDisabling) -> Members<'_> {
    Members::default()
        .text("subscription", disabling.name.as_str())
        .put("settings_position", position(disabling.settings_position))
        .put("delivered_position", position(disabling.delivered_position))
}

fn grant(grant: &Grant) -> Members<'_> {
    let verbs = grant.verbs.iter().map(|verb| Json::String(verb.to_string().into())).collect();
    Members::default()
        .text("grant", grant.id.as_str())
        .put("grantee", grantee(&grant.grantee))
        .text("tenant", grant.tenant.as_str())
        .put("environments", Json::Array(strings(grant.environments.iter().map(Pattern::as_str))))
        .put("services", Json::Array(strings(grant.services.iter().map(Pattern::as_str))))
        .put("verbs", Json::Array(verbs))
}

fn grantee(grantee: &Grantee) -> Json<'_> {
    match grantee {
        Grantee::Token(token) => Members::default().text("token", token.as_str()),
        Grantee::Subject { issuer, subject } => {
            Members::default().text("issuer", issuer.as_str()).text("subject", subject.as_str())
        }
        Grantee::Claims { issuer, claims } => {
            let claims = claims
                .iter()
                .map(|(name, pattern)| (Cow::Borrowed(&**name), Json::String(pattern.as_str().into())));
            let claims = Object::from_members(claims.collect()).unwrap_or_default();
            Members::default().text("issuer", issuer.as_str()).put("claims", Json::Object(claims))
        }
    }
    .json()
}

fn built_artifact(built: &Built) -> Members<'_> {
    Members::default()
        .text("artifact", built.artifact.as_str())
        .optional_text("version", built.version.as_ref().map(ShortText::as_str))
        .optional_text("commit", built.commit.as_ref().map(ShortText::as_str))
        .optional_time("committed_at", built.committed_at)
        .optional_text("builder", built.builder.as_ref().map(ShortText::as_str))
        .optional("provenance", built.provenance.as_ref().map(evidence))
}

fn rollback_request(request: &RollbackRequest) -> Members<'_> {
    rollback(&request.rollback)
        .put("to", integer(request.to.get()))
        .optional_time("at", request.at)
        .optional_text("source", request.source.as_ref().map(EnvironmentName::as_str))
        .nonempty_list("services", strings(request.scope.services.iter().map(ServiceName::as_str)))
        .nonempty_list("targets", strings(request.scope.targets.iter().map(TargetName::as_str)))
        .put("plan", plan(&request.plan))
        .text("plan_digest", request.plan_digest.as_str())
        .put("initiated_by", actor(&request.initiated_by))
        .optional("automatic", request.automatic.then_some(Json::Bool(true)))
        .optional("force", request.force.then_some(Json::Bool(true)))
        .optional("policy", request.policy.map(position))
        .optional("cause", request.cause.map(position))
}

fn mark(mark: &Mark) -> Members<'_> {
    let status = match mark.status {
        MarkedStatus::KnownGood => "known_good",
        MarkedStatus::Bad => "bad",
    };
    point_id(&mark.point)
        .text("status", status)
        .optional_text("name", mark.name.as_ref().map(ShortText::as_str))
}

fn observation(observation: &Observation) -> Members<'_> {
    Members::default()
        .text("environment", observation.environment.as_str())
        .optional("complete", observation.complete.then_some(Json::Bool(true)))
        .nonempty_list("targets", strings(observation.targets.iter().map(TargetName::as_str)))
        .nonempty_list("lanes", observation.lanes.iter().map(observed).collect())
}

/// Encodes a lane. A stated target is written even if it is the default one: leaving it out means something else.
fn lane(lane: &LaneRef) -> Members<'_> {
    Members::default()
        .text("environment", lane.environment.as_str())
        .text("service", lane.service.as_str())
        .optional_text("target", lane.target.as_ref().map(TargetName::as_str))
}

fn target(target: &TargetName) -> Option<&str> {
    (*target != TargetName::default()).then_some(target.as_str())
}

fn release(release: &Release) -> Json<'_> {
    Members::default()
        .text("version", release.version.as_str())
        .optional_text("artifact", release.artifact.as_ref().map(Artifact::as_str))
        .optional_text("config", release.config.as_ref().map(ConfigDigest::as_str))
        .optional_text("infrastructure", release.infrastructure.as_ref().map(ShortText::as_str))
        .optional_text("commit", release.commit.as_ref().map(ShortText::as_str))
        .json()
}

fn actor(actor: &Actor) -> Json<'_> {
    Members::default().text("type", actor.kind.as_str()).text("name", actor.name.as_str()).json()
}

fn identity_object(identity: &Identity) -> Json<'_> {
    Members::default().text("source", identity.source.as_str()).text("id", identity.id.as_str()).json()
}

fn evidence(evidence: &Evidence) -> Json<'_> {
    Members::default()
        .text("uri", evidence.uri.as_str())
        .optional_text("digest", evidence.digest.as_ref().map(ConfigDigest::as_str))
        .json()
}

fn deploy(deploy: &Deploy) -> Members<'_> {
    lane(&deploy.lane)
        .optional_text("slot", deploy.slot.as_ref().map(SlotName::as_str))
        .optional_text("deployment", deploy.deployment.as_ref().map(ShortText::as_str))
        .put("release", release(&deploy.release))
        .optional("reversible", (!deploy.reversible).then_some(Json::Bool(false)))
        .optional_text("rollback_id", deploy.rollback_id.as_ref().map(ShortText::as_str))
}

fn finished_deploy(it: &Deploy) -> Members<'_> {
    deploy(it)
        .optional("duration_ms", it.ending.duration_ms.map(integer))
        .optional("exit_code", it.ending.exit_code.map(|code| integer(code.into())))
}

fn validation(validation: &Validation) -> Members<'_> {
    let subject = match &validation.subject {
        ValidationSubject::Artifact(artifact) => Members::default().text("artifact", artifact.as_str()),
        ValidationSubject::Environment(environment) => {
            Members::default().text("environment", environment.as_str())
        }
        ValidationSubject::Lane { lane: it, release: what, deployment } => lane(it)
            .optional("release", what.as_ref().map(release))
            .optional_text("deployment", deployment.as_ref().map(ShortText::as_str)),
    };
    subject
        .text("check", validation.check.as_str())
        .optional_text("run", validation.run.as_ref().map(ShortText::as_str))
        .nonempty_list("evidence", validation.evidence.iter().map(evidence).collect())
        .optional("counts", validation.counts.map(counts))
}

fn counts<'a>(counts: Counts) -> Json<'a> {
    Members::default()
        .put("passed", integer(counts.passed))
        .put("failed", integer(counts.failed))
        .put("skipped", integer(counts.skipped))
        .json()
}

fn rollback(rollback: &Rollback) -> Members<'_> {
    Members::default()
        .text("environment", rollback.environment.as_str())
        .text("rollback_id", rollback.rollback_id.as_str())
}

fn acknowledged_lane((service, at): &(ServiceName, TargetName)) -> Json<'_> {
    Members::default().text("service", service.as_str()).optional_text("target", target(at)).json()
}

fn plan(plan: &Plan) -> Json<'_> {
    Members::default()
        .put("from", position(plan.from))
        .put("steps", Json::Array(plan.steps.iter().map(step).collect()))
        .json()
}

/// Encodes a step, always with its target. A report without a target applies to the service's only target, and to none
/// if the service has several.
fn step(step: &Step) -> Json<'_> {
    Members::default()
        .put("wave", integer(step.wave.into()))
        .text("service", step.service.as_str())
        .text("target", step.target.as_str())
        .text("action", step.action.name())
        .optional_text("slot", step.slot.as_ref().map(SlotName::as_str))
        .optional("from", step.from.as_ref().map(release))
        .optional("to", step.to.as_ref().map(release))
        .json()
}

fn position<'a>(position: Position) -> Json<'a> {
    integer(position.get())
}

fn point_id(point: &ReleasePointId) -> Members<'_> {
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
        (service.as_str().into(), Json::Array(strings(needs.iter().map(|name| name.as_str()))))
    });
    let dependencies = Members(dependencies.collect());
    Members::default()
        .nonempty_list(
            "required_validations",
            strings(policy.required_validations.iter().map(ShortText::as_str)),
        )
        .nonzero("soak_seconds", policy.soak_seconds)
        .optional("automatic_rollback", policy.automatic_rollback.as_ref().map(automatic_rollback))
        .optional("promotion", policy.promotion.as_ref().map(promotion))
        .nonzero("approvals", policy.approvals.into())
        .nonempty_list("target_order", strings(policy.target_order.iter().map(TargetName::as_str)))
        .optional("dependencies", (!dependencies.0.is_empty()).then(|| dependencies.json()))
        .optional_text("barrier", enforcement(policy.barrier))
        .optional_text("freeze", enforcement(policy.freeze))
}

fn automatic_rollback(automatic: &AutomaticRollback) -> Json<'_> {
    let scope = match automatic.scope {
        AutomaticScope::Service => None,
        AutomaticScope::Environment => Some("environment"),
    };
    let (steps, age) = (automatic.at_most_steps, automatic.at_most_age_seconds);
    let unless = |default, number| (number != default).then(|| integer(number));
    Members::default()
        .nonempty_list("checks", strings(automatic.checks.iter().map(ShortText::as_str)))
        .nonzero("cool_down_seconds", automatic.cool_down_seconds)
        .put("at_most_a_day", integer(automatic.at_most_a_day.into()))
        .optional_text("scope", scope)
        .optional("at_most_steps", unless(AutomaticRollback::DEFAULT_AT_MOST_STEPS.into(), steps.into()))
        .optional("at_most_age_seconds", unless(AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS, age))
        .json()
}

fn promotion(promotion: &Promotion) -> Json<'_> {
    let targets = match promotion.targets {
        PromotionTargets::All => None,
        PromotionTargets::Any => Some("any"),
    };
    Members::default()
        .nonempty_list("from", strings(promotion.from.iter().map(|name| name.as_str())))
        .optional_text("targets", targets)
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

fn enforcement(enforcement: Enforcement) -> Option<&'static str> {
    match enforcement {
        Enforcement::Block => None,
        Enforcement::Warn => Some("warn"),
    }
}

fn observed(observed: &Observed) -> Json<'_> {
    Members::default()
        .text("service", observed.service.as_str())
        .optional_text("target", target(&observed.target))
        .optional_text("slot", observed.slot.as_ref().map(SlotName::as_str))
        .put("release", observed.release.as_ref().map_or(Json::Null, release))
        .json()
}

fn freeze(freeze: &Freeze) -> Members<'_> {
    Members::default()
        .text("environment", freeze.environment.as_str())
        .text("freeze_id", freeze.freeze_id.as_str())
        .optional_time("until", freeze.until)
}

fn incident(incident: &Incident) -> Members<'_> {
    Members::default()
        .text("environment", incident.environment.as_str())
        .optional_text("service", incident.service.as_ref().map(ServiceName::as_str))
        .optional_text("target", incident.target.as_ref().map(TargetName::as_str))
        .text("incident_id", incident.incident_id.as_str())
}

fn activity(activity: &Activity) -> Members<'_> {
    Members::default()
        .text("activity", activity.activity.as_str())
        .optional_text("subject", activity.subject.as_ref().map(ShortText::as_str))
        .optional_text("environment", activity.environment.as_ref().map(EnvironmentName::as_str))
        .optional_text("service", activity.service.as_ref().map(ServiceName::as_str))
        .optional_text("target", activity.target.as_ref().map(TargetName::as_str))
        .optional_text("artifact", activity.artifact.as_ref().map(Artifact::as_str))
        .optional_text("commit", activity.commit.as_ref().map(ShortText::as_str))
        .optional_text("outcome", activity.outcome.as_ref().map(ShortText::as_str))
}
