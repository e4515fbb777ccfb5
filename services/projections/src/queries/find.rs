//! Lanes on which a release ever ran, by its version, its commit or its artifact.
//!
//! The history of a lane decides, with late reports and corrections, by what ran when. A release that states no artifact
//! is looked up by the artifact that its version meant.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use ledger_domain::event::{Built, Payload};
use ledger_domain::retirement::Retirements;
use ledger_domain::{
    Artifact, EventRef, EventTime, Lane, LaneFold, LiveReleaseRef, Release, ServiceName, ShortText,
};

use crate::Snapshot;
use crate::postgres::{Error, parsed};
use crate::sql::sql;
use crate::tables::artifacts::VersionMeanings;
use crate::tables::event_details::{CommitPrefix, prefix_end};
use crate::tables::events::parse_envelope;
use crate::tables::lanes::{far_future, load_histories, parse_lane};
use crate::tables::retirements::retirements;

/// Fewest characters of a commit or a digest that are looked up.
const MIN_PREFIX: usize = 7;

/// Description of a release by one text: a version, a commit, an artifact, or the first characters of a commit or of a
/// digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseQuery {
    version: ShortText,
    commit: Option<CommitPrefix>,
    /// First characters of the identity of an artifact.
    digests: [Option<String>; 2],
    artifact: Option<Artifact>,
}

impl ReleaseQuery {
    /// Returns the query for a text. Text of hexadecimal digits, at least 7, is the beginning of a commit or of a
    /// digest too; after `sha256:` or `sha512:`, it is that of a digest.
    #[must_use]
    pub fn new(text: ShortText) -> Self {
        let is_prefix = |digits: &str| {
            digits.len() >= MIN_PREFIX && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        let lower = text.as_str().to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").or_else(|| lower.strip_prefix("sha512:"));
        let digests = match digits {
            Some(digits) if is_prefix(digits) => [Some(lower.clone()), None],
            None if is_prefix(&lower) => [Some(format!("sha256:{lower}")), Some(format!("sha512:{lower}"))],
            _ => [None, None],
        };
        let commit = is_prefix(&lower).then(|| CommitPrefix::new(&lower));
        let artifact = Artifact::stored(text.as_str()).ok();
        Self { version: text, commit, digests, artifact }
    }

    fn keys(&self) -> Vec<String> {
        self.artifact.as_ref().map(Artifact::keys).unwrap_or_default()
    }

    /// Returns the package URL that artifacts with any checksum have in common, if the query states no digest.
    fn package_key(&self) -> Option<String> {
        self.artifact.as_ref().and_then(Artifact::key_of_any_checksum)
    }

    fn is_artifact(&self, artifact: &Artifact) -> bool {
        let is_same = self.artifact.as_ref().is_some_and(|wanted| wanted.is_same(artifact));
        is_same || {
            let identity = artifact.identity();
            self.digests.iter().flatten().any(|digest| identity.starts_with(digest.as_str()))
        }
    }

    /// Returns true if the query describes a release by what the release states.
    fn is_stated_by(&self, release: &Release) -> bool {
        let commit = self.commit.as_ref().zip(release.commit.as_ref());
        self.version == release.version
            || commit.is_some_and(|(wanted, commit)| wanted.is_commit(commit.as_str()))
            || release.artifact.as_ref().is_some_and(|artifact| self.is_artifact(artifact))
    }
}

/// Lanes that may have run a release, with the builds of it.
#[derive(Debug)]
pub struct ReleaseLanes {
    query: ReleaseQuery,
    /// Artifacts that were built from the commit that is asked for.
    of_commit: Vec<Artifact>,
    /// Versions of the release, as builds and other deploys state them.
    versions: HashSet<String>,
    /// Lanes, sorted by environment, service and target.
    lanes: Vec<Lane>,
}

impl ReleaseLanes {
    /// Returns the lanes, sorted by environment, service and target. A lane may have held the release without traffic.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Returns true if the query describes a release of this artifact, which it states or its version means.
    fn is_of_artifact(&self, release: &Release, artifact: &Artifact) -> bool {
        let is_built = || self.of_commit.iter().any(|built| built.is_same(artifact));
        self.query.is_artifact(artifact) || (release.commit.is_none() && is_built())
    }

    /// Returns true if what the release states does not decide, but the artifact that its version meant may.
    fn depends_on_version(&self, release: &Release) -> bool {
        release.artifact.is_none()
            && self.versions.contains(release.version.as_str())
            && !self.query.is_stated_by(release)
    }
}

/// Release on a lane, with the times at which it went live there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// Lane.
    pub lane: Lane,
    /// Version of the release.
    pub version: String,
    /// Artifact, as the last deploy stated it.
    pub artifact: Option<String>,
    /// Commit, as the last deploy stated it.
    pub commit: Option<String>,
    /// Moment of the change by which it first went live.
    pub first: EventTime,
    /// Moment of the change by which it last went live.
    pub last: EventTime,
    /// Moment of the change that replaced it since then; `None`: it is live.
    pub until: Option<EventTime>,
}

impl Snapshot {
    /// Returns the lanes that may have run a release.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn lanes_of_release(&mut self, query: ReleaseQuery) -> Result<ReleaseLanes, Error> {
        let builds = self.builds_of_release(&query).await?;
        let mut built: Vec<String> = vec![query.version.to_string()];
        built.extend(builds.iter().filter_map(|built| built.version.as_ref()).map(ToString::to_string));
        let mut keys = query.keys();
        keys.extend(builds.iter().flat_map(|built| built.artifact.keys()));
        // A comparison with null selects nothing.
        let end = |prefix: &Option<String>| prefix.as_deref().map(prefix_end);
        let [one, other] = &query.digests;
        let commit = query.commit.as_ref();
        let rows = sqlx::query_as(sql!("lanes/of_release"))
            .bind(built)
            .bind(commit.map(CommitPrefix::first))
            .bind(commit.map(CommitPrefix::end))
            .bind(commit.map(CommitPrefix::shortened).unwrap_or_default())
            .bind(one)
            .bind(end(one))
            .bind(other)
            .bind(end(other))
            .bind(keys)
            .bind(query.package_key());
        let rows: Vec<(String, String, String, String)> = rows.fetch_all(self.connection()).await?;
        let lanes = rows.iter().map(|(environment, service, target, _)| {
            parsed("tracks", service, || parse_lane(environment, service, target))
        });
        let mut lanes = lanes.collect::<Result<Vec<Lane>, Error>>()?;
        lanes.dedup();
        let versions = rows.into_iter().map(|(.., version)| version).collect();
        let is_of_commit = |built: &Built| {
            let commit = query.commit.as_ref().zip(built.commit.as_ref());
            commit.is_some_and(|(wanted, commit)| wanted.is_commit(commit.as_str()))
        };
        let of_commit = builds.into_iter().filter(is_of_commit).map(|built| built.artifact).collect();
        Ok(ReleaseLanes { query, of_commit, versions, lanes })
    }

    /// Returns the builds that state the commit or the artifact of a query.
    async fn builds_of_release(&mut self, query: &ReleaseQuery) -> Result<Vec<Built>, Error> {
        let end = |prefix: &Option<String>| prefix.as_deref().map(prefix_end);
        let [one, other] = &query.digests;
        let commit = query.commit.as_ref();
        let rows = sqlx::query_as(sql!("events/builds_of_release"))
            .bind(commit.map(CommitPrefix::first))
            .bind(commit.map(CommitPrefix::end))
            .bind(commit.map(CommitPrefix::shortened).unwrap_or_default())
            .bind(one)
            .bind(end(one))
            .bind(other)
            .bind(end(other))
            .bind(query.keys())
            .bind(query.package_key());
        let rows: Vec<(i64, Vec<u8>)> = rows.fetch_all(self.connection()).await?;
        let mut builds = Vec::with_capacity(rows.len());
        for row in rows {
            let (_, envelope) = parse_envelope(row)?;
            if let Payload::ArtifactBuilt(built) = &envelope.event().payload {
                builds.push(built.clone());
            }
        }
        Ok(builds)
    }

    /// Returns when a release that was looked up ran on a lane, for each of its versions, ordered by the first time.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn runs_of_release(
        &mut self,
        found: &ReleaseLanes,
        lane: &Lane,
    ) -> Result<Vec<FoundRun>, Error> {
        let Some(id) = self.environment_id(&lane.environment).await? else { return Ok(Vec::new()) };
        let known_at = self.position();
        let retirements = retirements(self.connection(), id, known_at).await?;
        let key = [(lane.service.clone(), lane.target.clone())];
        let histories = load_histories(self.connection(), id, &key, known_at, far_future()).await?;
        let fold: LaneFold = histories.into_iter().next().unwrap_or_default();
        let steps = fold.steps_under(&retirements);
        let of_deploys = self.artifacts_of_deploys(found, lane, &steps).await?;
        let is_found = |release: &Release| {
            let artifact = release.artifact.as_ref().or_else(|| of_deploys.get(&release.version));
            found.query.is_stated_by(release)
                || artifact.is_some_and(|artifact| found.is_of_artifact(release, artifact))
        };
        Ok(runs(lane, &steps, &retirements, is_found))
    }

    /// Returns the artifacts of the versions that ran on a lane without stating one: for each, what it meant when it
    /// last went live or, if it meant none then, the first that it meant after that.
    async fn artifacts_of_deploys(
        &mut self,
        found: &ReleaseLanes,
        lane: &Lane,
        steps: &[Step<'_>],
    ) -> Result<HashMap<ShortText, Artifact>, Error> {
        let mut artifacts = HashMap::new();
        let mut last: HashMap<ShortText, DateTime<Utc>> = HashMap::new();
        for live in steps.iter().filter_map(|(_, live)| live.as_ref()) {
            if found.depends_on_version(live.release) {
                last.insert(live.release.version.clone(), live.since.occurred_at);
            }
        }
        let service: &ServiceName = &lane.service;
        let id = self.environment_id(&lane.environment).await?.filter(|_| !last.is_empty());
        let Some(id) = id else { return Ok(artifacts) };
        let known_at = self.position();
        let versions: Vec<(&ServiceName, &ShortText)> =
            last.keys().map(|version| (service, version)).collect();
        let meanings = VersionMeanings::load(self.connection(), id, versions, known_at).await?;
        for (version, at) in last {
            if let Some(artifact) = meanings.artifact_of_deploy(service, &version, at) {
                let artifact = artifact.clone();
                artifacts.insert(version, artifact);
            }
        }
        Ok(artifacts)
    }
}

/// Change of a lane, and what it runs from there on.
type Step<'s> = (&'s EventRef, Option<LiveReleaseRef<'s>>);

/// Returns the runs of the releases that are found, one for each version.
fn runs(
    lane: &Lane,
    steps: &[Step<'_>],
    retirements: &Retirements,
    is_found: impl Fn(&Release) -> bool,
) -> Vec<FoundRun> {
    let mut runs: Vec<FoundRun> = Vec::new();
    for (index, (since, live)) in steps.iter().enumerate() {
        let Some(live) = live.as_ref().filter(|live| is_found(live.release)) else { continue };
        let release = live.release;
        let next = steps.get(index + 1);
        let continues = next
            .and_then(|(_, live)| live.as_ref())
            .is_some_and(|next| next.release.version == release.version && is_found(next.release));
        let replaced = next.filter(|_| !continues);
        let replaced = replaced.map(|(event, _)| event.event_time());
        let retired = retirements.first_after(since.occurred_at);
        let run = FoundRun {
            lane: lane.clone(),
            version: release.version.to_string(),
            artifact: release.artifact.as_ref().map(|artifact| artifact.as_str().to_owned()),
            commit: release.commit.as_ref().map(ToString::to_string),
            first: live.since.event_time(),
            last: live.since.event_time(),
            until: replaced.into_iter().chain(retired).min(),
        };
        match runs.iter_mut().find(|other| other.version == run.version) {
            Some(other) => *other = FoundRun { first: other.first, ..run },
            None => runs.push(run),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> ReleaseQuery {
        ReleaseQuery::new(ShortText::parse(text).expect("a text"))
    }

    #[test]
    fn hexadecimal_digits_are_the_beginning_of_a_commit_or_of_a_digest() {
        let found = query("3F2A91C");
        assert_eq!(found.commit, Some(CommitPrefix::new("3f2a91c")));
        assert_eq!(found.digests, [Some("sha256:3f2a91c".into()), Some("sha512:3f2a91c".into())]);
    }

    #[test]
    fn a_short_text_or_another_word_is_a_version_only() {
        for text in ["v948", "3f2a91", "release-2026"] {
            let found = query(text);
            assert_eq!((found.keys(), found.commit, found.digests), (vec![], None, [None, None]), "{text}");
        }
    }

    #[test]
    fn a_digest_may_be_shortened_as_tables_show_it() {
        let found = query("sha256:abcdef012345");
        assert_eq!((found.commit, found.digests), (None, [Some("sha256:abcdef012345".into()), None]));
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(query(&digest).keys(), [digest]);
    }
}
