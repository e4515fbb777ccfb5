//! An application of Argo CD: its names, its last sync operation and its health.

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, EnvironmentName, ImageReference, ServiceName, TargetName};

use crate::hooks::context::Context;
use crate::hooks::draft::Draft;
use crate::hooks::json::Node;
use crate::hooks::release::{ReleaseParts, check_version};
use crate::hooks::settings::RevisionMeans;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood};

/// Prefix of the labels and annotations that state names of the ledger.
const PREFIX: &str = "releaseledger.io/";

/// An application.
#[derive(Debug)]
pub(super) struct Application<'m> {
    /// The message.
    pub root: Node<'m>,
    /// Its metadata.
    pub metadata: Node<'m>,
    /// Its last sync operation.
    pub operation: Option<Node<'m>>,
    /// Its health.
    pub health: Option<Node<'m>>,
    /// Its name.
    pub name: &'m str,
    /// Its id: the `uid`, else namespace and name.
    pub id: String,
    /// Source of its events.
    pub source: String,
    /// Its page.
    pub href: Option<String>,
    destination: Option<Node<'m>>,
    status: Option<Node<'m>>,
}

/// The lane that an application deploys to.
#[derive(Debug)]
pub(super) struct Lane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: Option<TargetName>,
}

/// The parts of a release that the image of a service states.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Its tag.
    pub version: Option<String>,
    /// The image by its digest.
    pub artifact: Option<String>,
}

impl<'m> Application<'m> {
    /// Reads the application of a message.
    pub(super) fn read(context: Context<'_>, root: &Node<'m>) -> Result<Self, NotUnderstood> {
        let app = root.object("app")?;
        let metadata = app.object("metadata")?;
        let name = metadata.text("name")?;
        let namespace = metadata.optional_text("namespace")?.unwrap_or("argocd");
        let id = metadata.optional_text("uid")?.map_or_else(|| format!("{namespace}/{name}"), str::to_owned);
        let address = root.get("context").and_then(|shared| shared.hint("argocdUrl"));
        let address = address.map(|url| url.trim_end_matches('/'));
        let status = app.optional_object("status")?;
        let part = |name| status.as_ref().map_or(Ok(None), |status| status.optional_object(name));
        let spec = app.optional_object("spec")?;
        Ok(Self {
            root: root.clone(),
            operation: part("operationState")?,
            health: part("health")?,
            name,
            id,
            source: context.source(address.unwrap_or("argocd")),
            href: address.map(|url| format!("{url}/applications/{namespace}/{name}")),
            destination: spec.map_or(Ok(None), |spec| spec.optional_object("destination"))?,
            metadata,
            status,
        })
    }

    /// Returns the phase of the last sync operation.
    pub(super) fn phase(&self) -> Result<Option<&'m str>, NotUnderstood> {
        self.operation.as_ref().map_or(Ok(None), |operation| operation.optional_text("phase"))
    }

    /// Returns the health.
    pub(super) fn health(&self) -> Result<Option<&'m str>, NotUnderstood> {
        self.health.as_ref().map_or(Ok(None), |health| health.optional_text("status"))
    }

    /// Returns who started the last sync operation: the type and the name.
    pub(super) fn initiator(&self) -> Option<(&'static str, &'m str)> {
        let initiator =
            self.operation.as_ref()?.get("operation").and_then(|operation| operation.get("initiatedBy"));
        match initiator.and_then(|initiator| initiator.hint("username")) {
            Some(name) => Some(("person", name)),
            None => Some(("workload", "argocd")),
        }
    }

    /// Returns the foreign name of the environment: by a label or an annotation, else that of the destination if the
    /// settings map it.
    pub(super) fn foreign_environment(&self, context: Context<'_>) -> Option<String> {
        let is_mapped = |name: &String| context.webhook.names.environments.contains_key(name);
        let stated = self.stated("environment").map(str::to_owned);
        stated.or_else(|| self.destinations().into_iter().find(is_mapped))
    }

    /// Returns the lane, by labels or annotations `releaseledger.io/environment`, `/service` and `/target`, else by the
    /// maps of the settings: the environment and the target by the destination, the service by the name.
    pub(super) fn lane(&self, context: Context<'_>) -> Result<Lane, NotUnderstood> {
        let names = &context.webhook.names;
        let candidates = self.destinations();
        let foreign = self.foreign_environment(context);
        let environment = names.environment(foreign.as_deref()).map_err(|error| {
            let hint = format!(
                "{error}; or label the application {PREFIX}environment, or map one of {candidates:?}"
            );
            self.metadata.fault(hint)
        })?;
        let namespaced =
            self.metadata.hint("namespace").map(|namespace| format!("{namespace}/{}", self.name));
        let namespaced = namespaced.filter(|name| names.services.contains_key(name));
        let service = self.stated("service").or(namespaced.as_deref()).unwrap_or(self.name);
        let service = names
            .service(Some(service))
            .map_err(|error| self.metadata.fault_in("name", error.to_string()))?;
        let mapped = candidates.iter().find(|name| names.targets.contains_key(*name));
        let target = self.stated("target").or(mapped.map(String::as_str));
        let target = names.target(target).map_err(|error| self.metadata.fault(error.to_string()))?;
        Ok(Lane { environment, service, target })
    }

    /// Returns the release of the last sync operation; `None` if it states no revision.
    ///
    /// With several sources, the version is that of the first chart, or the first revision, and the infrastructure is the
    /// first revision of git.
    /// The image counts only once the operation has succeeded: before, the images are those of the former release.
    pub(super) fn release(&self, context: Context<'_>) -> Result<Option<ReleaseParts>, NotUnderstood> {
        let revisions = self.revisions()?;
        let is_chart = |revision: &&String| !text::is_full_commit(revision);
        let Some(version) = revisions.iter().find(is_chart).or(revisions.first()) else { return Ok(None) };
        let commit = revisions.iter().find(|revision| text::is_full_commit(revision));
        let mut release = ReleaseParts { version: version.clone(), ..ReleaseParts::default() };
        match context.webhook.argocd.revision {
            RevisionMeans::Infrastructure => {
                release.infrastructure = commit.map(|commit| format!("git:{commit}"));
            }
            RevisionMeans::Commit => release.commit = commit.cloned(),
        }
        if let Some(image) = self.image(context)?.filter(|_| matches!(self.phase(), Ok(Some("Succeeded")))) {
            release.version = image.version.unwrap_or(release.version);
            release.artifact = image.artifact;
        }
        check_version(&release.version, |detail| self.metadata.fault(detail))?;
        Ok(Some(release))
    }

    /// Returns an activity about the application.
    pub(super) fn activity(
        &self,
        activity: &str,
        id: &str,
        at: DateTime<Utc>,
        outcome: Option<&str>,
        reason: Option<&str>,
    ) -> NativeEvent {
        Draft::new("activity.reported", &self.source, id, at)
            .with("activity", activity)
            .with_line("subject", Some(self.name))
            .with_line("outcome", outcome)
            .with_reason(reason)
            .with_link("application", self.href.as_deref())
            .build()
    }

    /// Returns a name of the ledger that a label or an annotation states.
    fn stated(&self, part: &str) -> Option<&'m str> {
        let key = format!("{PREFIX}{part}");
        let in_table = |table| self.metadata.get(table).and_then(|table: Node<'m>| table.hint(&key));
        in_table("labels").or_else(|| in_table("annotations"))
    }

    /// Returns the names by which the destination may be mapped, the most specific first.
    fn destinations(&self) -> Vec<String> {
        let Some(destination) = &self.destination else { return Vec::new() };
        let clusters: Vec<_> = ["name", "server"].iter().filter_map(|name| destination.hint(name)).collect();
        let namespace = destination.hint("namespace");
        let specific = clusters.iter().filter_map(|cluster| Some(format!("{cluster}/{}", namespace?)));
        let whole = clusters.iter().map(|cluster| (*cluster).to_owned());
        specific.chain(whole).chain(namespace.map(str::to_owned)).collect()
    }

    /// Returns the revisions of the last sync operation: those of its result, or those that were requested. Those of the
    /// comparison are not used: they may be newer than what was synced.
    fn revisions(&self) -> Result<Vec<String>, NotUnderstood> {
        let Some(operation) = &self.operation else { return Ok(Vec::new()) };
        let result = operation.optional_object("syncResult")?;
        let requested = operation.get("operation").and_then(|requested| requested.get("sync"));
        for node in [result, requested].into_iter().flatten() {
            let several = node.items("revisions")?;
            let several = several.iter().filter_map(|revision| revision.value().as_str()).map(str::to_owned);
            let found: Vec<_> = several
                .chain(node.optional_text("revision")?.map(str::to_owned))
                .filter(|it| !it.is_empty())
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Returns true if the images that the message lists were read after the operation.
    fn has_current_images(&self, context: Context<'_>) -> Result<bool, NotUnderstood> {
        let (Some(status), Some(operation)) = (&self.status, &self.operation) else { return Ok(false) };
        let read_at = context.optional_time(status, "reconciledAt")?;
        let finished_at = context.optional_time(operation, "finishedAt")?;
        Ok(matches!((read_at, finished_at), (Some(read), Some(finished)) if read >= finished))
    }

    /// Returns what the image of the service states: that of the settings, else the application's only image. Nothing is
    /// known if several images of the repository run, as they do during a rollout.
    fn image(&self, context: Context<'_>) -> Result<Option<Image>, NotUnderstood> {
        if !self.has_current_images(context)? {
            return Ok(None);
        }
        let summary = self.status.as_ref().and_then(|status| status.get("summary"));
        let images = summary.map_or(Ok(Vec::new()), |summary| summary.items("images"))?;
        let images: Vec<_> = images.iter().filter_map(|image| image.value().as_str()).collect();
        let repository = self.image_repository(context)?;
        let is_own = |image: &str| {
            repository.is_none_or(|repository| ImageReference::split(image).repository == repository)
        };
        let own = images.iter().filter(|image| is_own(image));
        Ok(match own.collect::<Vec<_>>()[..] {
            [image] => {
                let tag = ImageReference::split(image).tag;
                let version = tag.filter(|_| repository.is_some()).map(str::to_owned);
                Some(Image { version, artifact: artifact(image) })
            }
            _ => None,
        })
    }

    /// Returns the repository of the service's image by the settings.
    fn image_repository<'c>(&self, context: Context<'c>) -> Result<Option<&'c str>, NotUnderstood> {
        let configured = &context.webhook.argocd.images;
        if configured.is_empty() {
            return Ok(None);
        }
        Ok(configured.get(self.lane(context)?.service.as_str()).map(String::as_str))
    }

    /// Returns true if the version of a deploy is known only once it has succeeded.
    pub(super) fn is_versioned_by_image(&self, context: Context<'_>) -> Result<bool, NotUnderstood> {
        self.image_repository(context).map(|repository| repository.is_some())
    }
}

/// Returns an image as an artifact if it has a digest.
fn artifact(image: &str) -> Option<String> {
    Artifact::parse(image).is_ok().then(|| image.to_owned())
}
