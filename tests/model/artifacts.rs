//! The artifact that a version means, and revocations: section 2 of decision 0015.

use crate::entry::{Entry, Moment, Release, artifact_name, same_artifact};
use crate::lanes::{Model, ReportTarget};

impl Model {
    /// Returns the artifact of the latest build of a version at or before `m`. If the builds have several names, only
    /// those with the service's name count.
    pub(crate) fn built_artifact(&self, service: &str, version: &str, m: Moment, k: u64) -> Option<String> {
        let mut builds = self.known(k);
        builds.retain(|entry| {
            entry.is("artifact.built") && entry.optional("version") == Some(version) && entry.moment() <= m
        });
        let mut names: Vec<String> =
            builds.iter().map(|entry| artifact_name(entry.text("artifact"))).collect();
        names.sort();
        names.dedup();
        if names.len() > 1 {
            builds.retain(|entry| artifact_name(entry.text("artifact")) == service);
        }
        let latest = builds.into_iter().max_by_key(|entry| entry.moment())?;
        latest.optional("artifact").map(str::to_owned)
    }

    /// Returns the artifact that a version of a service means in an environment at `m`.
    pub(crate) fn artifact_of_version(
        &self,
        environment: &str,
        service: &str,
        version: &str,
        m: Moment,
        k: u64,
    ) -> Option<String> {
        let mut deploys = self.known(k);
        deploys.retain(|entry| {
            let release = entry.release();
            entry.is("deploy.succeeded")
                && entry.text("service") == service
                && release.version == version
                && release.artifact.is_some()
                && entry.moment() <= m
                && matches!(*self.target_of(entry), ReportTarget::Resolved(_))
        });
        let latest = |here: bool| {
            deploys
                .iter()
                .filter(|entry| !here || entry.text("environment") == environment)
                .max_by_key(|entry| entry.moment())
                .and_then(|entry| entry.release().artifact)
        };
        latest(true).or_else(|| latest(false)).or_else(|| self.built_artifact(service, version, m, k))
    }

    /// Returns the artifact of a deploy at a time that states only its version: the one that the version means then; if
    /// none, that of the first later event that gives the version a meaning.
    pub(crate) fn artifact_of_deploy(
        &self,
        lane: [&str; 2],
        version: &str,
        time: i64,
        k: u64,
    ) -> Option<String> {
        let meant = self.artifact_of_version(lane[0], lane[1], version, (time, u64::MAX), k);
        if meant.is_some() {
            return meant;
        }
        let mut later = self.known(k);
        later.retain(|entry| entry.occurred_at > time);
        later.sort_by_key(|entry| entry.moment());
        let is_build =
            |entry: &Entry| entry.is("artifact.built") && entry.optional("version") == Some(version);
        let is_named = |entry: &Entry| artifact_name(entry.text("artifact")) == lane[1];
        let has_named_build = later.iter().any(|entry| is_build(entry) && is_named(entry));
        for entry in later {
            let release = entry.release();
            let is_stating_deploy = entry.is("deploy.succeeded")
                && entry.text("service") == lane[1]
                && release.version == version
                && release.artifact.is_some()
                && matches!(*self.target_of(entry), ReportTarget::Resolved(_));
            if is_stating_deploy {
                return release.artifact;
            }
            if is_build(entry) && (is_named(entry) || !has_named_build) {
                // Builds of several names mean nothing, unless one has the name of the service.
                let artifact = self.built_artifact(lane[1], version, entry.moment(), k);
                if artifact.is_some() {
                    return artifact;
                }
            }
        }
        None
    }

    /// Returns the release; if it states no artifact, with the one that its version means at `m`.
    pub(crate) fn with_artifact(&self, lane: [&str; 2], release: &Release, m: Moment, k: u64) -> Release {
        let mut completed = release.clone();
        if completed.artifact.is_none() {
            completed.artifact = self.artifact_of_version(lane[0], lane[1], &release.version, m, k);
        }
        completed
    }

    /// Returns true if the latest of the artifact's revocations and reinstatements is a revocation.
    pub(crate) fn is_revoked(&self, artifact: &str, k: u64) -> bool {
        let mut statements = self.known(k);
        statements.retain(|entry| {
            ["artifact.revoked", "artifact.reinstated"].contains(&&*entry.kind)
                && same_artifact(entry.text("artifact"), artifact)
        });
        statements
            .into_iter()
            .max_by_key(|entry| entry.moment())
            .is_some_and(|entry| entry.is("artifact.revoked"))
    }
}
