//! Lanes on which a release ever went live, by its version, its commit or its artifact.

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, Lane, Position, ShortText};

use crate::Snapshot;
use crate::postgres::{Error, parsed, position};
use crate::sql::sql;
use crate::tables::events::prefix_end;
use crate::tables::lanes::parse_lane;

/// Fewest characters of a commit or a digest that are looked up.
const MIN_PREFIX: usize = 7;

/// Description of a release by one text: a version, a commit, an artifact, or the first characters of a commit or of a
/// digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseQuery {
    version: ShortText,
    commit: Option<String>,
    /// First characters of the identity of an artifact.
    digests: [Option<String>; 2],
    keys: Vec<String>,
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
        let commit = is_prefix(&lower).then_some(lower);
        let keys = Artifact::stored(text.as_str()).map(|artifact| artifact.keys()).unwrap_or_default();
        Self { version: text, commit, digests, keys }
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
    /// Time and position of the change by which it first went live.
    pub first: (DateTime<Utc>, Position),
    /// Time and position of the change by which it last went live.
    pub last: (DateTime<Utc>, Position),
    /// Time and position of the change that replaced it since then; `None`: it is live.
    pub until: Option<(DateTime<Utc>, Position)>,
}

#[derive(sqlx::FromRow)]
struct Row {
    environment: String,
    service: String,
    target: String,
    version: String,
    artifact: Option<String>,
    commit: Option<String>,
    first_at: DateTime<Utc>,
    first_position: i64,
    last_at: DateTime<Utc>,
    last_position: i64,
    until_at: Option<DateTime<Utc>>,
    until_position: Option<i64>,
}

impl Row {
    fn run(self) -> Result<FoundRun, Error> {
        let lane = parsed("live_changes", self.last_position, || {
            parse_lane(&self.environment, &self.service, &self.target)
        })?;
        Ok(FoundRun {
            lane,
            version: self.version,
            artifact: self.artifact,
            commit: self.commit,
            first: (self.first_at, position(self.first_position)),
            last: (self.last_at, position(self.last_position)),
            until: self.until_at.zip(self.until_position.map(position)),
        })
    }
}

impl Snapshot {
    /// Returns a page of the lanes on which a release ever went live, sorted by environment, service and target. Skips
    /// `skip` rows, and returns at most `limit`. Corrected deploys do not count.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn find_release(
        &mut self,
        release: &ReleaseQuery,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<FoundRun>, Error> {
        // A comparison with null selects nothing.
        let end = |prefix: &Option<String>| prefix.as_deref().map(prefix_end);
        let [one, other] = &release.digests;
        let query = sqlx::query_as(sql!("live_changes/find"))
            .bind(release.version.as_str())
            .bind(&release.commit)
            .bind(end(&release.commit))
            .bind(one)
            .bind(end(one))
            .bind(other)
            .bind(end(other))
            .bind(&release.keys)
            .bind(i64::from(limit))
            .bind(i64::from(skip));
        let rows: Vec<Row> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(Row::run).collect()
    }
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
        assert_eq!(found.commit.as_deref(), Some("3f2a91c"));
        assert_eq!(found.digests, [Some("sha256:3f2a91c".into()), Some("sha512:3f2a91c".into())]);
    }

    #[test]
    fn a_short_text_or_another_word_is_a_version_only() {
        for text in ["v948", "3f2a91", "release-2026"] {
            let found = query(text);
            assert_eq!((found.commit, found.digests, found.keys), (None, [None, None], vec![]), "{text}");
        }
    }

    #[test]
    fn a_digest_may_be_shortened_as_tables_show_it() {
        let found = query("sha256:abcdef012345");
        assert_eq!((found.commit, found.digests), (None, [Some("sha256:abcdef012345".into()), None]));
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(query(&digest).keys, [digest]);
    }
}
