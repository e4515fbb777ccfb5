//! The release of a deploy, from the members of a message.

use ledger_domain::{Artifact, ConfigDigest, ShortText};
use serde_json::{Map, Value};

use super::json::Node;
use super::settings::VersionFrom;
use crate::translation::NotUnderstood;

/// The parts of a release as far as a message states them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ReleaseParts {
    /// The version.
    pub version: String,
    /// The artifact, by digest.
    pub artifact: Option<String>,
    /// The digest of the configuration.
    pub config: Option<String>,
    /// The revision of the infrastructure.
    pub infrastructure: Option<String>,
    /// The full id of the commit.
    pub commit: Option<String>,
}

impl ReleaseParts {
    /// Returns the release as a member of an event's data.
    pub(super) fn value(&self) -> Value {
        let mut release = Map::from_iter([("version".to_owned(), Value::from(self.version.as_str()))]);
        let parts = [
            ("artifact", &self.artifact),
            ("config", &self.config),
            ("infrastructure", &self.infrastructure),
            ("commit", &self.commit),
        ];
        for (name, part) in parts {
            if let Some(part) = part {
                release.insert(name.to_owned(), Value::from(part.as_str()));
            }
        }
        Value::Object(release)
    }
}

/// Returns the version of a deploy by its ref and its commit.
pub(super) fn version_of(rule: VersionFrom, reference: Option<&str>, commit: &str) -> String {
    let reference = reference.map(str::trim).filter(|name| !name.is_empty());
    let short = |name: &'_ str| {
        name.strip_prefix("refs/tags/").or(name.strip_prefix("refs/heads/")).map(str::to_owned)
    };
    match (rule, reference) {
        (VersionFrom::Ref, Some(name)) => short(name).unwrap_or_else(|| name.to_owned()),
        (VersionFrom::Auto, Some(name)) => tag(name).unwrap_or(commit).to_owned(),
        _ => commit.to_owned(),
    }
}

/// Returns the tag that a ref names, judging by its form: a branch such as `v2` or `2.x` is none.
fn tag(reference: &str) -> Option<&str> {
    if let Some(name) = reference.strip_prefix("refs/tags/") {
        return Some(name);
    }
    let mut numbers = reference.strip_prefix('v').unwrap_or(reference).splitn(3, '.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_tag = numbers.next().is_some_and(is_number)
        && numbers.next().is_some_and(is_number)
        && numbers.next().is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (is_tag && !reference.contains('/')).then_some(reference)
}

/// Checks a version at its place in a message.
pub(super) fn check_version(
    version: &str,
    at: impl FnOnce(String) -> NotUnderstood,
) -> Result<(), NotUnderstood> {
    ShortText::parse(version).map(drop).map_err(|error| at(format!("a version {error}")))
}

/// Returns an artifact that a message states.
pub(super) fn artifact(node: &Node<'_>, name: &str) -> Result<Option<String>, NotUnderstood> {
    let Some(text) = node.optional_text(name)? else { return Ok(None) };
    Artifact::parse(text).map_err(|error| node.fault_in(name, format!("an artifact {error}")))?;
    Ok(Some(text.to_owned()))
}

/// Returns the digest of a configuration that a message states.
pub(super) fn config(node: &Node<'_>, name: &str) -> Result<Option<String>, NotUnderstood> {
    let Some(text) = node.optional_text(name)? else { return Ok(None) };
    ConfigDigest::parse(text).map_err(|error| node.fault_in(name, error.to_string()))?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "5732a5872809a214337dc162d8b21f900429daae";

    #[test]
    fn a_tag_is_a_version_and_a_branch_is_not() {
        for (reference, version) in [
            ("v1.2.3", "v1.2.3"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            ("refs/tags/release-7", "release-7"),
            ("main", COMMIT),
            ("refs/heads/v1", COMMIT),
            ("release-7", COMMIT),
            ("vNext", COMMIT),
            ("v2", COMMIT),
            ("2.x", COMMIT),
            ("4.2.x", COMMIT),
            ("4.2", COMMIT),
            ("1.2.3-fix/typo", COMMIT),
            (COMMIT, COMMIT),
            ("", COMMIT),
        ] {
            assert_eq!(version_of(VersionFrom::Auto, Some(reference), COMMIT), version, "{reference}");
        }
        assert_eq!(version_of(VersionFrom::Ref, Some("refs/heads/main"), COMMIT), "main");
        assert_eq!(version_of(VersionFrom::Ref, None, COMMIT), COMMIT);
        assert_eq!(version_of(VersionFrom::Commit, Some("v1"), COMMIT), COMMIT);
    }
}
