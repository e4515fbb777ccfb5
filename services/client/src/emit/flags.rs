//! Flags that describe one event.

use std::fs::File;

use anyhow::Context as _;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Kind, ServiceName};
use serde_json::{Map, Value};

use crate::bounded::read_text;
use crate::ci::{CiContext, CiFlags};
use crate::compose::compose_event;
use crate::details::{DetailFlags, EventSubject};
use crate::invalid::invalid;

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

    /// Composes the event of a kind, with the metadata of the CI.
    ///
    /// # Errors
    /// The event is invalid; the error names the flag.
    pub(super) fn event(&self, kind: &str, ci: &CiFlags) -> anyhow::Result<Envelope> {
        let kind = Kind::parse_name(kind).or_else(|_| Kind::parse_type(kind));
        let kind = kind.map_err(|error| invalid(error.to_string()))?;
        // The same event, emitted again by another run of the CI, must not differ.
        let ci = if self.id.is_some() { ci.constant_context()? } else { ci.context()? };
        self.event_of(kind, ci).context("invalid event")
    }

    fn event_of(&self, kind: Kind, ci: CiContext) -> anyhow::Result<Envelope> {
        let data = match &self.data {
            Some(text) => parse_data(text)?,
            None => Map::new(),
        };
        let details = self.details.clone().or(&without(&data, ci), kind);
        let data = self.all_data(kind, &details, data)?;
        let attributes = details.origin.attributes(self.id.as_deref(), self.time.as_deref());
        compose_event(kind, attributes, data, &[])
    }

    fn all_data(
        &self,
        kind: Kind,
        details: &DetailFlags,
        mut data: Map<String, Value>,
    ) -> anyhow::Result<Map<String, Value>> {
        let subject = EventSubject {
            environment: self.environment.as_ref(),
            service: self.service.as_ref(),
            version: self.version.as_deref(),
        };
        for (name, value) in details.members(kind.family(), subject) {
            if data.insert(name.clone(), value).is_some() {
                return Err(invalid(format!("{name} is given twice: by a flag and in --data")));
            }
        }
        Ok(data)
    }
}

/// Returns the metadata of the CI without what the data has already.
fn without(data: &Map<String, Value>, ci: CiContext) -> CiContext {
    let unless = |names: &[&str], value: Option<String>| {
        value.filter(|_| !names.iter().any(|name| data.contains_key(*name)))
    };
    CiContext {
        deployment: unless(&["deployment"], ci.deployment),
        commit: unless(&["release", "commit", "rollback_id"], ci.commit),
        pipeline: unless(&["links"], ci.pipeline),
        actor: ci.actor.filter(|_| !data.contains_key("actor")),
        source: ci.source,
        correlation: ci.correlation,
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
    serde_json::from_str(&json).map_err(|error| invalid(format!("--data is not a JSON object: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ledger_domain::ShortText;
    use ledger_domain::event::{Actor, Payload};

    use serde_json::json;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        kind: String,
        #[command(flatten)]
        flags: EventFlags,
    }

    fn event(arguments: &[&str]) -> anyhow::Result<Envelope> {
        event_in(CiContext::default(), arguments)
    }

    fn event_in(ci: CiContext, arguments: &[&str]) -> anyhow::Result<Envelope> {
        let arguments = Arguments::try_parse_from([&["emit"], arguments].concat())?;
        arguments.flags.event_of(Kind::parse_name(&arguments.kind)?, ci)
    }

    fn error_of(arguments: &[&str]) -> String {
        event(arguments).expect_err("an error").to_string()
    }

    /// Returns the data of an event that a run of a CI emits.
    fn data_in_ci(arguments: &[&str]) -> Value {
        let text = |text: &str| ShortText::parse(text).expect("a text");
        let ci = CiContext {
            deployment: Some("run-1".to_owned()),
            commit: Some("6973793".to_owned()),
            pipeline: Some("https://ci.example/1".to_owned()),
            actor: Some(Actor { kind: text("person"), name: text("ada") }),
            source: Some("https://ci.example/web".to_owned()),
            correlation: Some("https://ci.example/runs/1".to_owned()),
        };
        let envelope = event_in(ci, arguments).expect("an event");
        let mut event: Value = serde_json::from_slice(envelope.bytes()).expect("JSON");
        assert_eq!(event["source"], "https://ci.example/web");
        assert_eq!(event["correlationid"], "https://ci.example/runs/1");
        let mut data = event["data"].take();
        assert_eq!(data["links"], json!([{"rel": "pipeline", "href": "https://ci.example/1"}]));
        assert_eq!(data["actor"], json!({"type": "person", "name": "ada"}));
        data.as_object_mut().expect("an object").retain(|name, _| name != "links" && name != "actor");
        data
    }

    #[test]
    fn the_ci_provides_what_an_event_of_the_kind_has() {
        let lane = ["--environment", "dev", "--service", "web"];
        let of = |kind: &'static str, more: &[&'static str]| data_in_ci(&[&[kind][..], &lane, more].concat());
        let deploy = ["--version", "v1"];
        assert_eq!(
            of("deploy.succeeded", &deploy),
            json!({
                "environment": "dev", "service": "web", "deployment": "run-1",
                "release": {"version": "v1", "commit": "6973793"},
            })
        );
        for other in [&["--rollback", "r-1"][..], &["--no-commit"]] {
            let release = of("deploy.succeeded", &[&deploy[..], other].concat())["release"].clone();
            assert_eq!(release, json!({"version": "v1"}), "{other:?}");
        }
        assert_eq!(
            of("traffic.switched", &["--slot", "green"]),
            json!({"environment": "dev", "service": "web", "deployment": "run-1", "slot": "green"})
        );
        let check = ["--data", r#"{"check":"smoke"}"#];
        assert_eq!(
            of("validation.passed", &check),
            json!({"environment": "dev", "service": "web", "check": "smoke"})
        );
        let freeze = ["freeze.started", "--environment", "dev", "--data", r#"{"freeze_id":"f"}"#];
        assert_eq!(data_in_ci(&freeze), json!({"environment": "dev", "freeze_id": "f"}));
        let built = ["artifact.built", "--artifact", "pkg:cargo/rand@0.9.1"];
        assert_eq!(data_in_ci(&built), json!({"artifact": "pkg:cargo/rand@0.9.1", "commit": "6973793"}));
    }

    #[test]
    fn data_takes_precedence_over_the_ci() {
        let data = r#"{"release":{"version":"v1"},"deployment":"mine"}"#;
        let deploy = ["deploy.succeeded", "--environment", "dev", "--service", "web", "--data", data];
        let expected = json!({
            "environment": "dev", "service": "web", "deployment": "mine", "release": {"version": "v1"},
        });
        assert_eq!(data_in_ci(&deploy), expected);
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
    fn a_correlation_that_is_given_takes_precedence_over_the_ci() {
        let ci = CiContext { correlation: Some("run-1".to_owned()), ..CiContext::default() };
        let lane = ["deploy.removed", "--environment", "dev", "--service", "web"];
        let correlation = |more: &[&str]| {
            let envelope = event_in(ci.clone(), &[&lane[..], more].concat()).expect("an event");
            envelope.correlation().map(str::to_owned)
        };
        assert_eq!(correlation(&[]).as_deref(), Some("run-1"));
        assert_eq!(correlation(&["--correlation", "train-7"]).as_deref(), Some("train-7"));
        let error = error_of(&[&lane[..], &["--correlation", "two\nlines"]].concat());
        assert!(error.contains("--correlation"), "{error}");
    }

    #[test]
    fn an_actor_without_a_type_is_a_person_as_in_every_command() {
        let lane = ["deploy.removed", "--environment", "dev", "--service", "web"];
        for name in [["--by", "ada"], ["--actor", "ada"], ["--by", "person:ada"]] {
            let event = event(&[&lane[..], &name].concat()).expect("an event");
            let event: Value = serde_json::from_slice(event.bytes()).expect("JSON");
            assert_eq!(event["data"]["actor"], json!({"type": "person", "name": "ada"}), "{name:?}");
        }
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
        assert_eq!(error_of(&dev), "--service is missing");
        assert!(error_of(&["deploy.done"]).starts_with("unknown event type \"deploy.done\""));
        assert!(
            error_of(&[&dev[..], &["--data", r#"{"environment":"dev"}"#]].concat()).contains("given twice")
        );
        assert!(error_of(&[&dev[..], &["--data", "[]"]].concat()).contains("--data is not a JSON object"));
        assert!(error_of(&[&dev[..], &["--actor", "person:"]].concat()).contains("invalid value 'person:'"));
        assert!(error_of(&[&dev[..], &["--service", "a b"]].concat()).contains("invalid value 'a b'"));
    }
}
