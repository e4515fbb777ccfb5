//! A change of a lane's release, and the event that reports it.

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_adapters::translation::NativeEvent;
use ledger_codec::cloudevents::{Envelope, InvalidEvent, check_secrets};
use ledger_domain::{LongText, ShortText, Source, TargetName, is_format};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::lanes::LaneKey;
use crate::pin::Pin;
use crate::repository::Authorship;

/// The part of an event that the commit of the repository becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitPart {
    /// The infrastructure revision of the release, `git:` and the commit. Each deploy is another release: evidence
    /// about a release does not return with its version, and no deploy returns to an earlier release.
    #[default]
    Infrastructure,
    /// The name of the deployment only. A deploy of an earlier version returns to that release.
    Deployment,
}

/// The author of a commit, as the commit claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// `person`, or `workload` if the name ends with `[bot]`.
    pub kind: &'static str,
    /// The name.
    pub name: ShortText,
}

/// A change of what a lane runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit that changed it, in full.
    pub commit: String,
    /// The time: that of the committer, or right after the commit before, if that is later.
    pub occurred_at: DateTime<Utc>,
    /// The author of the commit, unless its name cannot be recorded.
    pub author: Option<Author>,
    /// The first line of the commit's message, unless it is empty or contains a secret.
    pub reason: Option<LongText>,
    /// The file that states the release, or stated it until now.
    pub path: String,
    /// The field in the file, or the name of the rule's extraction.
    pub field: String,
    /// The lane.
    pub lane: LaneKey,
    /// The release before; `None` if nothing ran.
    pub before: Option<Pin>,
    /// The release from now on; `None` if nothing runs any more.
    pub after: Option<Pin>,
}

impl Change {
    /// Returns the id of the event within the repository's source: it depends on commit, path, lane and field only.
    #[must_use]
    pub fn id(&self) -> String {
        let target = self.lane.target.as_ref().map(TargetName::as_str);
        let lane = [Some(self.lane.environment.as_str()), target, Some(self.lane.service.as_str())];
        let content = json!([self.commit, self.path, lane, self.field]).to_string();
        let hash = hex::encode(&Sha256::digest(content)[..16]);
        format!("{}:{}:{hash}", self.commit, self.lane)
    }

    /// Returns the change as an event in the ledger's native format: `deploy.succeeded`, or `deploy.removed`.
    #[must_use]
    pub fn event(&self, source: &Source, commit_part: CommitPart) -> NativeEvent {
        let verb = if self.after.is_some() { "succeeded" } else { "removed" };
        let mut data = Map::new();
        data.insert("environment".to_owned(), self.lane.environment.as_str().into());
        if let Some(target) = &self.lane.target {
            data.insert("target".to_owned(), target.as_str().into());
        }
        data.insert("service".to_owned(), self.lane.service.as_str().into());
        data.insert("deployment".to_owned(), format!("git:{}", self.commit).into());
        if let Some(pin) = &self.after {
            data.insert("release".to_owned(), self.release(pin, commit_part));
        }
        if let Some(Author { kind, name }) = &self.author {
            data.insert("actor".to_owned(), json!({ "type": kind, "name": name.as_str() }));
        }
        if let Some(reason) = &self.reason {
            data.insert("reason".to_owned(), reason.as_str().into());
        }
        let mut event = Map::new();
        for (name, value) in [
            ("specversion", "1.0".to_owned()),
            ("id", self.id()),
            ("source", source.as_str().to_owned()),
            ("type", format!("io.releaseledger.deploy.{verb}.v1")),
            ("time", self.occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            ("subject", self.lane.to_string()),
            ("datacontenttype", "application/json".to_owned()),
        ] {
            event.insert(name.to_owned(), Value::String(value));
        }
        event.insert("data".to_owned(), Value::Object(data));
        NativeEvent(event)
    }

    /// Checks that the ledger accepts the event.
    ///
    /// # Errors
    /// Returns the first fault, such as a version that has the form of a secret.
    pub(crate) fn check(&self, source: &Source, commit_part: CommitPart) -> Result<(), InvalidEvent> {
        let NativeEvent(event) = self.event(source, commit_part);
        Envelope::parse(Value::Object(event).to_string().as_bytes()).map(drop)
    }

    fn release(&self, pin: &Pin, commit_part: CommitPart) -> Value {
        let mut release = json!({ "version": pin.version.as_str() });
        if let Some(artifact) = &pin.artifact {
            release["artifact"] = artifact.as_str().into();
        }
        if commit_part == CommitPart::Infrastructure {
            release["infrastructure"] = format!("git:{}", self.commit).into();
        }
        release
    }
}

/// Returns the author of a commit, if its name can be recorded.
pub(crate) fn author(authorship: &Authorship) -> Option<Author> {
    let visible: String = authorship.author.chars().filter(|c| !c.is_control() && !is_format(*c)).collect();
    let name = ShortText::parse(shortened(visible.trim(), ShortText::LIMIT).trim()).ok()?;
    let kind = if name.as_str().ends_with("[bot]") { "workload" } else { "person" };
    has_no_secret(name.as_str()).then_some(Author { kind, name })
}

/// Returns the first line of a commit's message, if it can be recorded.
pub(crate) fn reason(authorship: &Authorship) -> Option<LongText> {
    let visible: String = authorship.subject.chars().filter(|c| !c.is_control()).collect();
    let text = shortened(visible.trim(), ShortText::LIMIT).trim();
    LongText::parse(text).ok().filter(|_| has_no_secret(text))
}

fn has_no_secret(text: &str) -> bool {
    check_secrets(json!({ "text": text }).to_string().as_bytes()).is_ok()
}

fn shortened(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::{ValueForm, pin};

    fn change(target: Option<&str>, after: Option<&str>) -> Change {
        Change {
            commit: "9c41d07e".repeat(5),
            occurred_at: DateTime::from_timestamp(1_700_000_000, 1_000).expect("a time"),
            author: author(&Authorship { author: "Mira Santos".to_owned(), subject: String::new() }),
            reason: reason(&Authorship { author: String::new(), subject: "Deploy web".to_owned() }),
            path: "charts/web/production.yaml".to_owned(),
            field: "image.tag".to_owned(),
            lane: LaneKey {
                environment: "production".parse().expect("a name"),
                target: target.map(|target| target.parse().expect("a name")),
                service: "web".parse().expect("a name"),
            },
            before: None,
            after: after.map(|text| pin(text, ValueForm::Image).expect("an image")),
        }
    }

    fn event(change: &Change, commit_part: CommitPart) -> Value {
        let source = Source::parse("https://git.example/deploy").expect("a source");
        change.check(&source, commit_part).expect("an event that the ledger accepts");
        Value::Object(change.event(&source, commit_part).0)
    }

    #[test]
    fn a_change_is_a_deploy_and_the_end_of_a_release_a_removal() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let deploy =
            event(&change(Some("eu"), Some(&format!("web:v1@{digest}"))), CommitPart::Infrastructure);
        let commit = "9c41d07e".repeat(5);
        assert_eq!(deploy["type"], "io.releaseledger.deploy.succeeded.v1");
        assert_eq!(deploy["time"], "2023-11-14T22:13:20.000001Z");
        assert_eq!(deploy["subject"], "production/eu/web");
        assert_eq!(
            deploy["data"],
            json!({
                "environment": "production", "target": "eu", "service": "web", "deployment": format!("git:{commit}"),
                "release": {
                    "version": "v1", "artifact": format!("web@{digest}"), "infrastructure": format!("git:{commit}"),
                },
                "actor": { "type": "person", "name": "Mira Santos" }, "reason": "Deploy web",
            })
        );
        let removal = event(&change(None, None), CommitPart::Infrastructure);
        assert_eq!(removal["type"], "io.releaseledger.deploy.removed.v1");
        assert_eq!(removal["data"].get("release"), None);
        assert_eq!(removal["data"].get("target"), None);
    }

    #[test]
    fn a_commit_that_is_a_deployment_is_no_part_of_the_release() {
        let deploy = event(&change(None, Some("web:v1")), CommitPart::Deployment);
        assert_eq!(deploy["data"]["release"], json!({ "version": "v1" }));
    }

    #[test]
    fn the_identity_depends_on_commit_path_lane_and_field() {
        let one = change(None, Some("web:v1"));
        let ids: std::collections::BTreeSet<_> = [
            one.clone(),
            Change { commit: "0".repeat(40), ..one.clone() },
            Change { path: "other.yaml".to_owned(), ..one.clone() },
            Change { field: "tag".to_owned(), ..one.clone() },
            change(Some("default"), Some("web:v1")),
        ]
        .iter()
        .map(Change::id)
        .collect();
        assert_eq!(ids.len(), 5);
        assert_eq!(change(None, Some("web:v2")).id(), one.id());
    }

    #[test]
    fn names_and_messages_that_cannot_be_recorded_are_shortened_or_left_out() {
        let of = |name: &str| author(&Authorship { author: name.to_owned(), subject: name.to_owned() });
        assert_eq!(of("").map(|author| author.kind), None);
        assert_eq!(of("\u{200b} ").map(|author| author.kind), None);
        assert_eq!(
            of("Mira\u{202e} Santos").map(|author| author.name.to_string()),
            Some("Mira Santos".to_owned())
        );
        assert_eq!(of("renovate[bot]").map(|author| author.kind), Some("workload"));
        assert_eq!(of(&"\u{e4}".repeat(600)).map(|author| author.name.as_str().len()), Some(512));
        let secret = "use AKIAIOSFODNN7EXAMPLE now";
        let found = reason(&Authorship { author: String::new(), subject: secret.to_owned() });
        assert_eq!(found.is_some(), has_no_secret(secret));
    }
}
