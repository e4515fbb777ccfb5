//! Conditions on what an event names and on its time: as SQL, and for an entry in memory.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Artifact, ShortText, TargetName};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::key::key;

/// Conditions on what an event names and on its time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventDetails {
    /// Target of the event.
    pub target: Option<TargetName>,
    /// Name of the actor, by the sender or only claimed.
    pub actor: Option<ShortText>,
    /// First characters of the commit that the event names, in either case. A commit that was recorded shortened, by 7
    /// digits or more, is found by the whole one.
    pub commit: Option<ShortText>,
    /// Artifact that the event names.
    pub artifact: Option<Artifact>,
    /// The event occurred at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// The event occurred before this time.
    pub until: Option<DateTime<Utc>>,
}

impl EventDetails {
    /// Returns true if an entry with this target, time and names meets the conditions: for an entry in memory, what the
    /// conditions of a query are for one in the table.
    #[must_use]
    pub fn includes(&self, target: Option<&str>, occurred_at: DateTime<Utc>, names: &EventNames) -> bool {
        let is =
            |wanted: Option<&str>, stated: Option<&str>| wanted.is_none_or(|wanted| stated == Some(wanted));
        is(self.target.as_ref().map(TargetName::as_str), target)
            && is(self.actor.as_ref().map(ShortText::as_str), names.actor.as_deref())
            && self.commit.as_ref().is_none_or(|commit| names.has_commit(commit))
            && self.artifact.as_ref().is_none_or(|artifact| names.has_artifact(artifact))
            && self.since.is_none_or(|since| occurred_at >= since)
            && self.until.is_none_or(|until| occurred_at < until)
    }
}

/// Names in an event that [`EventDetails`] can select.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventNames {
    /// Name of the actor, by the sender or only claimed.
    pub(crate) actor: Option<String>,
    pub(crate) commit: Option<String>,
    /// Identity of the artifact.
    pub(crate) artifact: Option<String>,
    /// Second lookup key of the artifact.
    pub(crate) package_key: Option<String>,
}

impl EventNames {
    /// Returns what an event names.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        let event = envelope.event();
        let artifact = event.payload.artifact();
        Self {
            actor: event.actor.as_ref().map(|actor| actor.name.to_string()),
            commit: event.payload.commit().map(ToString::to_string),
            artifact: artifact.map(Artifact::identity),
            package_key: artifact.and_then(Artifact::package_key),
        }
    }

    fn has_commit(&self, wanted: &ShortText) -> bool {
        let wanted = CommitPrefix::new(wanted.as_str());
        self.commit.as_deref().is_some_and(|commit| wanted.is_commit(commit))
    }

    fn has_artifact(&self, wanted: &Artifact) -> bool {
        let has_key = self.artifact.as_ref().is_some_and(|identity| wanted.keys().contains(identity));
        has_key
            || self.package_key.as_ref().is_some_and(|key| wanted.key_of_any_checksum().as_ref() == Some(key))
    }
}

/// Adds the condition that a column has a name. The index has the hashes of the names.
pub(crate) fn push_name(query: &mut QueryBuilder<Postgres>, column: &str, name: &str) {
    query.push(format!(" AND hashtext({column}) = hashtext(")).push_bind(name.to_owned());
    query.push(format!(") AND {column} = ")).push_bind(name.to_owned());
}

/// Adds the conditions. [`EventDetails::includes`] is the same for an entry in memory.
pub(crate) fn push_details(query: &mut QueryBuilder<Postgres>, details: &EventDetails) {
    if let Some(target) = &details.target {
        push_name(query, "target", target.as_str());
    }
    if let Some(actor) = &details.actor {
        push_name(query, "actor", actor.as_str());
    }
    if let Some(commit) = &details.commit {
        let prefix = CommitPrefix::new(commit.as_str());
        let shortened = prefix.shortened();
        // The operators compare bytes, as the index does.
        query.push(" AND (lower(commit) ~>=~ ").push_bind(prefix.first().to_owned());
        query.push(" AND lower(commit) ~<~ ").push_bind(prefix.end());
        if !shortened.is_empty() {
            query.push(" OR lower(commit) = ANY(").push_bind(shortened).push(")");
        }
        query.push(")");
    }
    if let Some(artifact) = &details.artifact {
        // With these keys, exactly the artifacts that are the same match.
        let keys: Vec<Uuid> = artifact.keys().iter().map(|key| artifact_key(key)).collect();
        query.push(" AND (artifact = ANY(").push_bind(keys).push(")");
        if let Some(key) = artifact.key_of_any_checksum() {
            query.push(" OR package_key = ").push_bind(key);
        }
        query.push(")");
    }
    if let Some(since) = details.since {
        query.push(" AND occurred_at >= ").push_bind(since);
    }
    if let Some(until) = details.until {
        query.push(" AND occurred_at < ").push_bind(until);
    }
}

/// Returns the key of an artifact's identity.
pub(crate) fn artifact_key(identity: &str) -> Uuid {
    key("artifact", &[identity])
}

/// Returns the first text, by bytes, after all that begin with a prefix.
pub(crate) fn prefix_end(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// First characters of a commit, in lower case.
///
/// Commits are often shortened, by those who ask and by those who report: one is found by its beginning, and a recorded
/// beginning of at least 7 hexadecimal digits is found by the whole commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitPrefix(String);

impl CommitPrefix {
    /// Fewest characters of a commit that was recorded shortened.
    const MIN_RECORDED: usize = 7;
    /// Most characters of a commit: those of a SHA-256.
    const MAX: usize = 64;

    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase())
    }

    /// Returns the first text, by bytes, that begins with it.
    pub(crate) fn first(&self) -> &str {
        &self.0
    }

    /// Returns the first text, by bytes, after all that begin with it.
    pub(crate) fn end(&self) -> String {
        prefix_end(&self.0)
    }

    /// Returns the shortened commits by which it may have been recorded.
    pub(crate) fn shortened(&self) -> Vec<String> {
        let is_commit = self.0.len() <= Self::MAX && self.0.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_commit {
            return Vec::new();
        }
        (Self::MIN_RECORDED..self.0.len()).map(|length| self.0[..length].to_owned()).collect()
    }

    /// Returns true if a recorded commit is meant.
    pub(crate) fn is_commit(&self, recorded: &str) -> bool {
        let recorded = recorded.to_ascii_lowercase();
        recorded.starts_with(&self.0) || self.shortened().contains(&recorded)
    }
}
