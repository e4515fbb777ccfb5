//! Which artifact a version means, and which artifacts are revoked: section 2 of decision 0015.

use crate::entry::{Moment, Release, artifact_name, same_artifact};
use crate::lanes::{Model, Placed};

impl Model {
    /// The artifact of the latest build of a version at or before `m`, if the builds agree on the name.
    pub(crate) fn built(&self, service: &str, version: &str, m: Moment, k: u64) -> Option<String> {
        let mut builds = self.known(k);
        builds.retain(|entry| {
            entry.is("artifact.built") && entry.maybe("version") == Some(version) && entry.moment() <= m
        });
        let mut names: Vec<String> =
            builds.iter().map(|entry| artifact_name(entry.text("artifact"))).collect();
        names.sort();
        names.dedup();
        if names.len() > 1 {
            builds.retain(|entry| artifact_name(entry.text("artifact")) == service);
        }
        let latest = builds.into_iter().max_by_key(|entry| entry.moment())?;
        latest.maybe("artifact").map(str::to_owned)
    }

    /// The artifact that a version of a service means in an environment at `m`.
    pub(crate) fn meaning(
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
                && matches!(*self.placed(entry), Placed::At(_))
        });
        let latest = |here: bool| {
            deploys
                .iter()
                .filter(|entry| !here || entry.text("environment") == environment)
                .max_by_key(|entry| entry.moment())
                .and_then(|entry| entry.release().artifact)
        };
        latest(true).or_else(|| latest(false)).or_else(|| self.built(service, version, m, k))
    }

    /// The release, with the artifact that its version means at `m` where it states none.
    pub(crate) fn filled(&self, lane: [&str; 2], release: &Release, m: Moment, k: u64) -> Release {
        let mut filled = release.clone();
        if filled.artifact.is_none() {
            filled.artifact = self.meaning(lane[0], lane[1], &release.version, m, k);
        }
        filled
    }

    /// True if the latest of the artifact's revocations and reinstatements is a revocation.
    pub(crate) fn is_revoked(&self, artifact: &str, k: u64) -> bool {
        let mut words = self.known(k);
        words.retain(|entry| {
            ["artifact.revoked", "artifact.reinstated"].contains(&&*entry.kind)
                && same_artifact(entry.text("artifact"), artifact)
        });
        words.into_iter().max_by_key(|entry| entry.moment()).is_some_and(|entry| entry.is("artifact.revoked"))
    }
}
