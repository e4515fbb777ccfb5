//! Events of Flux, as the notification controller forwards them to a `Provider` of the type `generic-hmac`.
//!
//! A HelmRelease is deployed by `InstallSucceeded`, `UpgradeSucceeded` and `RollbackSucceeded`. A Kustomization is
//! deployed when its health check has passed: Flux reports that once for each change, and the end of a reconciliation in
//! each interval. An event has no id, so its identity is made of its object, its time and its content.

use serde_json::{Value, json};

use super::context::Context;
use super::draft::Draft;
use super::json::Node;
use super::release::{ReleaseParts, check_version};
use super::settings::KustomizationSuccess;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood, Translation};

/// Start of the message of a Kustomization whose health check has passed. Its reason is `Progressing`, as that of others.
const HEALTHY: &str = "Health check passed";

/// Key of the metadata that distinguishes the end of a reconciliation from other events with its reason, such as the
/// deletion of the Kustomization.
const COMMIT_STATUS: &str = "commit_status";

/// The meaning of an event for its object.
enum Meaning {
    Started,
    Succeeded,
    Failed,
    Removed,
    Test { passed: bool },
    Activity,
    Ignored(&'static str),
}

/// An event of Flux.
struct FluxEvent<'m> {
    root: Node<'m>,
    object: Node<'m>,
    kind: &'m str,
    name: &'m str,
    namespace: &'m str,
    reason: &'m str,
    message: &'m str,
    metadata: Option<Node<'m>>,
}

/// Translates a delivery.
pub(super) fn translate(context: Context<'_>, body: &Value) -> Result<Translation, NotUnderstood> {
    let root = Node::root(body);
    let object = root.object("involvedObject")?;
    let event = FluxEvent {
        kind: object.text("kind")?,
        name: object.text("name")?,
        namespace: object.optional_text("namespace")?.unwrap_or("default"),
        reason: root.text("reason")?,
        message: root.optional_text("message")?.unwrap_or_default(),
        metadata: root.optional_object("metadata")?,
        object,
        root,
    };
    if let Some(ignored) = context.ignored(event.foreign_environment(context)) {
        return Ok(ignored);
    }
    let meaning = event.meaning(context);
    if let Meaning::Ignored(why) = meaning {
        return Ok(Translation::Ignored(format!("{} {}: {why}", event.kind, event.shown_reason())));
    }
    event.event(context, &meaning).map(|event| Translation::Events(vec![event]))
}

impl<'m> FluxEvent<'m> {
    fn meaning(&self, context: Context<'_>) -> Meaning {
        match self.kind {
            "HelmRelease" => self.of_helm_release(),
            "Kustomization" => self.of_kustomization(context),
            "Alert" | "Provider" | "Receiver" => Meaning::Ignored("it is about notifications"),
            // Sources: a revision was fetched, or a chart was packaged.
            _ if self.is_error() => Meaning::Activity,
            _ => Meaning::Ignored("only HelmReleases and Kustomizations are deployed"),
        }
    }

    fn of_helm_release(&self) -> Meaning {
        match self.reason {
            "InstallSucceeded" | "UpgradeSucceeded" | "RollbackSucceeded" => Meaning::Succeeded,
            "InstallFailed" | "UpgradeFailed" | "RollbackFailed" => Meaning::Failed,
            "UninstallSucceeded" => Meaning::Removed,
            "TestSucceeded" => Meaning::Test { passed: true },
            "TestFailed" => Meaning::Test { passed: false },
            _ if self.is_error() => Meaning::Activity,
            "DriftDetected" | "DriftCorrected" => Meaning::Activity,
            _ => Meaning::Ignored("no deploy has started or ended"),
        }
    }

    fn of_kustomization(&self, context: Context<'_>) -> Meaning {
        let is_end = self.own(COMMIT_STATUS) == Some("update");
        let each = context.webhook.flux.kustomization_success == KustomizationSuccess::Reconciliation;
        match self.reason {
            "Progressing" if self.message.starts_with(HEALTHY) && each => {
                Meaning::Ignored("the end of the reconciliation is the deploy")
            }
            "Progressing" if self.message.starts_with(HEALTHY) => Meaning::Succeeded,
            "ReconciliationSucceeded" if is_end && each => Meaning::Succeeded,
            "ReconciliationSucceeded" if is_end => {
                Meaning::Ignored("it is sent in each interval; the passed health check is the deploy")
            }
            "HealthCheckCanceled" | "DependencyNotReady" => Meaning::Ignored("it is tried again"),
            _ if self.is_error() => Meaning::Failed,
            "Progressing" => Meaning::Started,
            // Objects were changed or deleted, also because the Kustomization is deleted.
            _ => Meaning::Activity,
        }
    }

    fn event(&self, context: Context<'_>, meaning: &Meaning) -> Result<NativeEvent, NotUnderstood> {
        let at = context.time(&self.root, "timestamp")?;
        let id = format!("{}/{}/{}", self.object_id(), at.timestamp(), self.reason);
        let id =
            format!("{id}/{}", &text::digest(&json!([self.message, self.revision()]).to_string())[7..19]);
        let source = context
            .source(&format!("flux/{}", self.root.hint("reportingController").unwrap_or("controller")));
        let release = self.release()?;
        let draft = |kind: &str| Draft::new(kind, &source, &id, at);
        let event = match (meaning, release) {
            (Meaning::Started, Some(release)) => self.deploy(context, draft("deploy.started"), &release)?,
            (Meaning::Succeeded, Some(release)) => {
                self.deploy(context, draft("deploy.succeeded"), &release)?
            }
            (Meaning::Failed, Some(release)) => {
                self.deploy(context, draft("deploy.failed"), &release)?.with_reason(Some(self.message))
            }
            (Meaning::Removed, _) => self.in_lane(context, draft("deploy.removed"))?,
            (Meaning::Test { passed }, release) => self.test(context, draft, *passed, release)?,
            (Meaning::Succeeded, None) => {
                let place = self.root.place("metadata");
                return Err(NotUnderstood::new(place, format!("must have {}/revision", self.group())));
            }
            _ => self.activity(draft("activity.reported")),
        };
        Ok(event.build())
    }

    fn deploy(
        &self,
        context: Context<'_>,
        draft: Draft,
        release: &ReleaseParts,
    ) -> Result<Draft, NotUnderstood> {
        let deployment = format!("{}/{}@{}", self.namespace, self.name, self.revision().unwrap_or_default());
        let draft = self.in_lane(context, draft)?;
        Ok(draft
            .with("deployment", text::id(&deployment))
            .with("release", release.value())
            .with_actor(self.actor()))
    }

    /// A test of a chart is a check only where the settings map it.
    fn test(
        &self,
        context: Context<'_>,
        draft: impl Fn(&str) -> Draft,
        passed: bool,
        release: Option<ReleaseParts>,
    ) -> Result<Draft, NotUnderstood> {
        let Some(check) = context.webhook.check("test", self.name) else {
            return Ok(self.activity(draft("activity.reported")));
        };
        let kind = if passed { "validation.passed" } else { "validation.failed" };
        let draft = self.in_lane(context, draft(kind))?;
        Ok(draft
            .with_optional("release", release.as_ref().map(ReleaseParts::value))
            .with("check", check.check.as_str())
            .with_actor(self.actor()))
    }

    fn activity(&self, draft: Draft) -> Draft {
        draft
            .with("activity", format!("flux.{}", text::line(self.reason).unwrap_or_default()))
            .with_line("subject", Some(&format!("{} {}/{}", self.kind, self.namespace, self.name)))
            .with_optional("outcome", self.is_error().then_some("error"))
            .with_reason(Some(self.message))
            .with_actor(self.actor())
    }

    /// Sets the lane: by `environment`, `service` and `target` of the metadata, which an Alert's `eventMetadata` or an
    /// annotation `event.toolkit.fluxcd.io/…` of the object adds, else by the maps of the settings.
    fn in_lane(&self, context: Context<'_>, draft: Draft) -> Result<Draft, NotUnderstood> {
        let names = &context.webhook.names;
        let full = format!("{}/{}", self.namespace, self.name);
        let environment = names.environment(self.foreign_environment(context)).map_err(|error| {
            let hint =
                format!("{error}; or add environment to eventMetadata of the Alert, or map the namespace");
            self.object.fault(hint)
        })?;
        let service = Some(full.as_str()).filter(|name| names.services.contains_key(*name));
        let service = names.service(Some(self.stated("service").or(service).unwrap_or(self.name)));
        let service = service.map_err(|error| self.object.fault_in("name", error.to_string()))?;
        let target = names.target(self.stated("target").or(self.stated("cluster")));
        let target = target.map_err(|error| self.object.fault(error.to_string()))?;
        Ok(draft
            .with("environment", environment.as_str())
            .with("service", service.as_str())
            .with_optional("target", target.map(|name| name.to_string())))
    }

    /// Returns the foreign name of the environment: that of the metadata, else the namespace if the settings map it.
    fn foreign_environment(&self, context: Context<'_>) -> Option<&'m str> {
        let is_mapped = |name: &&str| context.webhook.names.environments.contains_key(*name);
        self.stated("environment").or(Some(self.namespace).filter(is_mapped))
    }

    /// Returns the release: the version of the chart of a HelmRelease, the revision of a Kustomization.
    fn release(&self) -> Result<Option<ReleaseParts>, NotUnderstood> {
        let Some(revision) = self.revision() else { return Ok(None) };
        let mut release = ReleaseParts { version: revision.to_owned(), ..ReleaseParts::default() };
        if self.kind == "Kustomization" {
            // main@sha1:5732…, or main/5732… before Flux 2.
            let commit = revision.rsplit(['/', ':']).next().filter(|commit| text::is_full_commit(commit));
            let is_git = revision.contains("sha1:") || !revision.contains(':');
            if let Some(commit) = commit.filter(|_| is_git) {
                commit.clone_into(&mut release.version);
                release.infrastructure = Some(format!("git:{commit}"));
            }
        }
        check_version(&release.version, |detail| self.root.fault_in("metadata", detail))?;
        Ok(Some(release))
    }

    /// Returns the revision that the event is about.
    fn revision(&self) -> Option<&'m str> {
        self.own("revision")
    }

    /// Returns a member of the metadata that the controller of the object has added. Newer versions of the notification
    /// controller send its key without the API group.
    fn own(&self, key: &str) -> Option<&'m str> {
        let metadata = self.metadata.as_ref()?;
        metadata.hint(&format!("{}/{key}", self.group())).or_else(|| metadata.hint(key))
    }

    /// Returns a member of the metadata that an Alert or an annotation has added.
    fn stated(&self, key: &str) -> Option<&'m str> {
        let metadata = self.metadata.as_ref()?;
        metadata.hint(&format!("event.toolkit.fluxcd.io/{key}")).or_else(|| metadata.hint(key))
    }

    fn group(&self) -> &'m str {
        let version = self.object.hint("apiVersion").unwrap_or_default();
        version.split_once('/').map_or(version, |(group, _)| group)
    }

    fn object_id(&self) -> String {
        let uid = self.object.hint("uid");
        uid.map_or_else(|| format!("{}/{}/{}", self.kind, self.namespace, self.name), str::to_owned)
    }

    fn actor(&self) -> Option<(&'static str, &'m str)> {
        Some(("workload", self.root.hint("reportingController")?))
    }

    fn is_error(&self) -> bool {
        self.root.hint("severity") == Some("error")
    }

    fn shown_reason(&self) -> String {
        self.reason.chars().take(64).collect()
    }
}

#[cfg(test)]
mod tests;
