//! Entries of a history, and the parts of an event as the model reads them.

use chrono::DateTime;
use serde_json::Value;

/// Microseconds since 1970 and a position; totally ordered.
pub(crate) type Moment = (i64, u64);

/// Later than every moment.
pub(crate) const MAX_MOMENT: Moment = (i64::MAX, u64::MAX);

/// Earlier than every moment.
pub(crate) const MIN_MOMENT: Moment = (i64::MIN, 0);

/// One recorded event.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    /// Time of occurrence in microseconds since 1970.
    pub(crate) occurred_at: i64,
    /// Kind of event, such as `deploy.succeeded`.
    pub(crate) kind: String,
    /// CloudEvents source.
    pub(crate) source: String,
    /// CloudEvents id.
    pub(crate) id: String,
    /// Members of the event.
    pub(crate) data: Value,
}

impl Entry {
    pub(crate) fn moment(&self) -> Moment {
        (self.occurred_at, self.position)
    }

    /// Returns a member's text; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.data[name].as_str().unwrap_or_default()
    }

    /// Returns a member's text, if there is one.
    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        self.data[name].as_str()
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub(crate) fn release(&self) -> Release {
        Release::of(&self.data["release"])
    }

    /// Returns true for the changes of a lane: deploy, removal and switch.
    pub(crate) fn is_change(&self) -> bool {
        ["deploy.succeeded", "deploy.removed", "traffic.switched"].contains(&&*self.kind)
    }

    /// Returns true for reports of a lane; the ledger resolves a missing target when it records them.
    pub(crate) fn has_lane(&self) -> bool {
        self.kind.starts_with("deploy.") || self.is("traffic.switched")
    }

    /// Returns true for the end of a check.
    pub(crate) fn is_end(&self) -> bool {
        self.is("validation.passed") || self.is("validation.failed")
    }

    /// Returns true for reports that can correct others and be corrected.
    pub(crate) fn is_correctable(&self) -> bool {
        self.has_lane() || self.kind.starts_with("validation.")
    }

    /// Returns the source and id of the event that it corrects.
    pub(crate) fn corrects(&self) -> Option<(&str, &str)> {
        let corrects = &self.data["corrects"];
        Some((corrects["source"].as_str()?, corrects["id"].as_str()?))
    }

    /// Returns the name of the person who acted, normalized for comparison.
    pub(crate) fn person(&self) -> Option<String> {
        person(&self.data["actor"])
    }
}

/// Converts an RFC 3339 time to microseconds since 1970.
pub(crate) fn micros(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time).expect("the time is valid").timestamp_micros()
}

/// Returns a person's name, normalized for comparison; `None` for other actors. The generator uses ASCII names only.
pub(crate) fn person(actor: &Value) -> Option<String> {
    let name = actor["name"].as_str()?;
    (actor["type"] == "person").then(|| name.trim().to_lowercase())
}

/// A release as stated by an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) artifact: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) infrastructure: Option<String>,
    pub(crate) commit: Option<String>,
}

impl Release {
    pub(crate) fn of(value: &Value) -> Self {
        let part = |name: &str| value[name].as_str().map(str::to_owned);
        Self {
            version: part("version").unwrap_or_default(),
            artifact: part("artifact"),
            config: part("config"),
            infrastructure: part("infrastructure"),
            commit: part("commit"),
        }
    }

    /// Returns all parts, the artifact by its identity. Two releases are the same if their keys are equal.
    pub(crate) fn key(&self) -> Vec<String> {
        self.parts().into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Returns the parts in a fixed order; the second is the artifact's identity.
    pub(crate) fn parts(&self) -> [Option<String>; 5] {
        [
            Some(self.version.clone()),
            self.artifact.as_deref().map(artifact_identity),
            self.config.clone(),
            self.infrastructure.clone(),
            self.commit.clone(),
        ]
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// Returns true if some part that both releases state differs.
pub(crate) fn contradicts(one: &Release, other: &Release) -> bool {
    let (one, other) = (one.parts(), other.parts());
    (0..one.len()).any(|part| one[part].is_some() && other[part].is_some() && one[part] != other[part])
}

/// Returns true if every part that `wanted` states equals that of `running`.
pub(crate) fn matches(wanted: &Release, running: &Release) -> bool {
    let artifacts = match (&wanted.artifact, &running.artifact) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wanted), Some(running)) => same_artifact(wanted, running),
    };
    let other = |index: usize| {
        let wanted = &wanted.parts()[index];
        wanted.is_none() || *wanted == running.parts()[index]
    };
    artifacts && [0, 2, 3, 4].into_iter().all(other)
}

/// Returns the digest in an artifact's text, if there is one.
pub(crate) fn artifact_digest(text: &str) -> Option<String> {
    let text = text.replace("%3A", ":").replace("%3a", ":");
    let Some(purl) = text.strip_prefix("pkg:") else {
        return text.rsplit('@').next().map(str::to_owned);
    };
    let (path, qualifiers) = purl.split_once('?').unwrap_or((purl, ""));
    let kind = path.split('/').next().unwrap_or_default();
    if kind == "oci" || kind == "docker" {
        return path.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    }
    let checksum = qualifiers.split('&').find_map(|pair| pair.strip_prefix("checksum="));
    checksum.and_then(|digests| digests.split(',').next()).map(str::to_owned)
}

/// Returns the digest, or the purl without `checksum` if there is none.
pub(crate) fn artifact_identity(text: &str) -> String {
    artifact_digest(text).unwrap_or_else(|| without_checksum(text))
}

/// Removes the qualifier `checksum` from a purl. The generator writes canonical purls only.
fn without_checksum(text: &str) -> String {
    let (path, qualifiers) = text.split_once('?').unwrap_or((text, ""));
    let kept: Vec<&str> =
        qualifiers.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("checksum=")).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Returns true if two texts name the same artifact.
pub(crate) fn same_artifact(one: &str, other: &str) -> bool {
    match (artifact_digest(one), artifact_digest(other)) {
        (Some(one), Some(other)) => one == other,
        _ => without_checksum(one) == without_checksum(other),
    }
}

/// Returns the name in an artifact's text, the last part of its path; empty for a bare digest.
pub(crate) fn artifact_name(text: &str) -> String {
    let path = text.split('?').next().unwrap_or_default();
    let Some((path, _)) = path.rsplit_once('@') else {
        return if path.starts_with("pkg:") { last_segment(path) } else { String::new() };
    };
    last_segment(path)
}

fn last_segment(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}
