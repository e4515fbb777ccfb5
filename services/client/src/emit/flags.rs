//! Flags that describe one event.

use std::fs::File;

use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use ledger_domain::{EnvironmentName, Kind, ServiceName};
use serde_json::{Map, Value};

use crate::bounded::read_text;
use crate::clock;
use crate::details::{DetailFlags, EventSubject};

/// Members of an event that most kinds have; `--data` adds the others.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct EventFlags {
    /// The environment
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// The service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// The release's version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    details: DetailFlags,
    /// Other members of the event's data as JSON, or @FILE to read them from a file
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// The time at which it happened, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// The event's id, unique within its source; sent again with the same id, an event is recorded once
    /// [default: a new id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

impl EventFlags {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the CloudEvent, not validated yet.
    pub(super) fn event(&self, kind: &str) -> anyhow::Result<Vec<u8>> {
        let kind = Kind::parse_name(kind).or_else(|_| Kind::parse_type(kind))?;
        let now = || clock::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let time = self.time.clone().unwrap_or_else(now);
        Ok(self.details.event(kind, self.id.as_deref(), &time, self.all_data(kind)?)?)
    }

    fn all_data(&self, kind: Kind) -> anyhow::Result<Map<String, Value>> {
        let mut data = match &self.data {
            Some(text) => parse_data(text)?,
            None => Map::new(),
        };
        let subject = EventSubject {
            environment: self.environment.as_ref(),
            service: self.service.as_ref(),
            version: self.version.as_deref(),
        };
        for (name, value) in self.details.members(kind.family(), subject) {
            if data.insert(name.clone(), value).is_some() {
                bail!("{name} is given twice: by a flag and in --data");
            }
        }
        Ok(data)
    }
}

fn parse_data(text: &str) -> anyhow::Result<Map<String, Value>> {
    let json = match text.strip_prefix('@') {
        Some(file) => {
            let text = File::open(file).and_then(read_text);
            text.with_context(|| format!("--data: cannot read {file}"))?
        }
        None => text.to_owned(),
    };
    serde_json::from_str(&json).context("--data is not a JSON object")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ledger_codec::cloudevents::Envelope;
    use ledger_domain::event::Payload;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        kind: String,
        #[command(flatten)]
        flags: EventFlags,
    }

    fn event(arguments: &[&str]) -> anyhow::Result<Envelope> {
        let arguments = Arguments::try_parse_from([&["emit"], arguments].concat())?;
        Ok(Envelope::parse(&arguments.flags.event(&arguments.kind)?)?)
    }

    fn error_of(arguments: &[&str]) -> String {
        event(arguments).expect_err("an error").to_string()
    }

    #[test]
    fn flags_describe_a_deploy() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let envelope = event(&[
            "deploy.succeeded",
            "--environment",
            "production",
            "--service",
            "web",
            "--target",
            "eu-west-1",
            "--slot",
            "green",
            "--version",
            "v1",
            "--artifact",
            "pkg:oci/web@1",
            "--config",
            &digest,
            "--infrastructure",
            "git:1",
            "--commit",
            "3f2a",
            "--deployment",
            "run-1",
            "--reason",
            "why not",
            "--irreversible",
            "--actor",
            "workload:ci:1",
            "--link",
            "pipeline=https://ci.example/?a=1",
            "--link",
            "ticket=T-1",
            "--time",
            "2026-08-01T12:00:00Z",
            "--source",
            "here",
            "--id",
            "1",
            "--rollback",
            "r-1",
        ])
        .expect("an event");
        let bytes = std::str::from_utf8(envelope.bytes()).expect("UTF-8");
        assert_eq!(
            bytes,
            format!(
                r#"{{"data":{{"actor":{{"name":"ci:1","type":"workload"}},"deployment":"run-1","environment":"production","links":[{{"href":"https://ci.example/?a=1","rel":"pipeline"}},{{"href":"T-1","rel":"ticket"}}],"reason":"why not","release":{{"artifact":"pkg:oci/web@1","commit":"3f2a","config":"{digest}","infrastructure":"git:1","version":"v1"}},"reversible":false,"rollback_id":"r-1","service":"web","slot":"green","target":"eu-west-1"}},"datacontenttype":"application/json","id":"1","source":"here","specversion":"1.0","time":"2026-08-01T12:00:00Z","type":"io.releaseledger.deploy.succeeded.v1"}}"#
            )
        );
    }

    #[test]
    fn two_reports_are_two_events_unless_an_id_is_given() {
        let id = || {
            let lane = ["deploy.removed", "--environment", "dev", "--service", "web"];
            event(&lane).expect("an event").identity().clone()
        };
        assert_ne!(id(), id());
        assert_eq!(id().source.as_str(), "release-ledger-cli");
    }

    #[test]
    fn data_adds_members_that_have_no_flag() {
        let check = ["validation.passed", "--environment", "dev", "--data", r#"{"check":"smoke"}"#];
        assert!(matches!(event(&check).expect("an event").event().payload, Payload::ValidationPassed(_)));
        let artifact = format!("pkg:oci/web@sha256:{}", "a".repeat(64));
        let built = ["artifact.built", "--artifact", &artifact, "--version", "v1", "--commit", "3f2a"];
        assert!(matches!(event(&built).expect("an event").event().payload, Payload::ArtifactBuilt(_)));
    }

    #[test]
    fn an_error_names_the_wrong_member_or_flag() {
        let dev = ["deploy.succeeded", "--environment", "dev"];
        assert_eq!(error_of(&dev), "/data/service: is required");
        assert!(error_of(&["deploy.done"]).starts_with("unknown event type \"deploy.done\""));
        assert!(
            error_of(&[&dev[..], &["--data", r#"{"environment":"dev"}"#]].concat()).contains("given twice")
        );
        assert!(error_of(&[&dev[..], &["--data", "[]"]].concat()).contains("--data is not a JSON object"));
        assert!(error_of(&[&dev[..], &["--actor", "ada"]].concat()).contains("must be TYPE:NAME"));
        assert!(error_of(&[&dev[..], &["--service", "a b"]].concat()).contains("invalid value 'a b'"));
    }
}
