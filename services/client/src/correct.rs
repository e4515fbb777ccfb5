//! `release-ledger correct`: reports an event again, and says which report it replaces.

use anyhow::{Context as _, bail, ensure};
use clap::builder::BoolishValueParser;
use ledger_api_types::EntryBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Family, Kind, ServiceName, SlotName, TargetName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ci::CiFlags;
use super::compose::compose_event;
use super::connection::Connection;
use super::details::OriginFlags;
use super::query::{head, read, with_param};
use super::release::ReleaseFlags;
use super::session::ReportArgs;

/// Members that belong to the report, and not to what it reports: a correction has its own.
const OF_THE_REPORT: [&str; 4] = ["actor", "reason", "links", "corrects"];

/// Report a deploy, removal, switch or check again, with what was wrong corrected
///
/// Reports the same as the entry at POSITION, at the same time, except for what the flags say. From the correction's
/// position on, the first report has no effect; both stay in the history. In a CI, its variables provide --actor,
/// --link pipeline=… and --source.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger correct 4711 --version v2 --reason 'The job reported the wrong version.'
  release-ledger correct 4711 --as deploy.failed"
)]
pub struct Correct {
    /// The position of the entry to correct, as `history` shows it
    #[arg(value_name = "POSITION")]
    position: u64,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    origin: OriginFlags,
    #[command(flatten)]
    ci: CiFlags,
    #[command(flatten)]
    sending: ReportArgs,
}

/// Flags that say what was wrong.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
struct Changes {
    /// It was this type of event, such as `deploy.failed`
    #[arg(long = "as", value_name = "TYPE", value_parser = Kind::parse_name)]
    kind: Option<Kind>,
    /// It was this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// It was this service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// It was this target
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// It was this slot
    #[arg(long, value_name = "NAME")]
    slot: Option<SlotName>,
    /// It was this version; the other parts of the release stay unless a flag gives them
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// It was this deployment
    #[arg(long, value_name = "RUN")]
    deployment: Option<String>,
    /// It can be undone by deploying the previous release, or not
    #[arg(long, value_name = "true|false", value_parser = BoolishValueParser::new())]
    reversible: Option<bool>,
    /// It happened at this time, in RFC 3339
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
}

/// The event to correct.
#[derive(Debug, Deserialize)]
struct EventBody {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    data: Map<String, Value>,
}

impl Correct {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such entry, it cannot be corrected, or the correction is neither recorded nor spooled.
    pub async fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.changes != Changes::default(),
            "nothing to correct; say what was wrong by a flag such as --version"
        );
        let origin = self.origin.or(&self.ci.context()?);
        let event = fetch(self.sending.connection().clone(), self.position).await?;
        let event = correction(self.position, event, &self.changes, &origin)?;
        self.sending.send(&event).await
    }
}

async fn fetch(connection: Connection, position: u64) -> anyhow::Result<EventBody> {
    let client = connection.client()?;
    let url = client.url(&["events", &position.to_string()]);
    let url = with_param(url, "wait_for", Some(head(&client).await?));
    Ok(read::<EntryBody<EventBody>>(&client.get(url).await?)?.event)
}

/// Composes the correction of the event at a position.
fn correction(
    position: u64,
    event: EventBody,
    changes: &Changes,
    origin: &OriginFlags,
) -> anyhow::Result<Envelope> {
    let EventBody { id, source, kind, time, mut data } = event;
    let former = Kind::parse_type(&kind).with_context(|| format!("cannot correct entry {position}"))?;
    let kind = changes.kind.unwrap_or(former);
    for kind in [former, kind] {
        if !matches!(kind.family(), Family::Deploy | Family::Traffic | Family::Validation) {
            bail!(
                "entry {position} cannot be corrected as {kind}; only deploys, removals, switches and checks can be \
                 corrected"
            );
        }
    }
    let dropped: &[&str] = match kind {
        Kind::DeployRemoved | Kind::TrafficSwitched => &["release", "reversible", "duration_ms", "exit_code"],
        Kind::DeployStarted => &["duration_ms", "exit_code"],
        _ => &[],
    };
    data.retain(|name, _| !OF_THE_REPORT.contains(&name.as_str()) && !dropped.contains(&name.as_str()));
    changes.apply(&mut data);
    data.insert("corrects".to_owned(), json!({"source": source, "id": id}));
    data.extend(origin.members());
    let attributes = origin.attributes(None, Some(changes.time.as_deref().unwrap_or(&time)));
    compose_event(kind, attributes, data, &[("/data/corrects", "POSITION")])
}

impl Changes {
    fn apply(&self, data: &mut Map<String, Value>) {
        let members = [
            ("environment", self.environment.as_ref().map(|name| Value::from(name.as_str()))),
            ("service", self.service.as_ref().map(|name| Value::from(name.as_str()))),
            ("target", self.target.as_ref().map(|name| Value::from(name.as_str()))),
            ("slot", self.slot.as_ref().map(|name| Value::from(name.as_str()))),
            ("deployment", self.deployment.clone().map(Value::String)),
            ("reversible", self.reversible.map(Value::Bool)),
        ];
        data.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let release = self.release.members(self.version.as_deref());
        if release.is_empty() {
            return;
        }
        match data.get_mut("release") {
            Some(Value::Object(former)) => former.extend(release),
            _ => drop(data.insert("release".to_owned(), Value::Object(release))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::ci::CiContext;

    #[derive(Debug, clap::Parser)]
    #[command(disable_version_flag = true)]
    struct Arguments {
        #[command(flatten)]
        changes: Changes,
    }

    fn corrected(kind: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let event = json!({
            "id": "1", "source": "ci", "type": format!("io.releaseledger.{kind}.v1"), "time": "2026-08-01T12:00:00Z",
            "data": {
                "environment": "dev", "service": "web", "release": {"version": "v1", "commit": "6973793"},
                "actor": {"type": "person", "name": "ada"}, "reason": "x", "corrects": {"source": "ci", "id": "0"},
            },
        });
        let event = serde_json::from_value(event).expect("an event");
        let arguments = [&["correct"][..], arguments].concat();
        let changes = Arguments::try_parse_from(arguments).expect("valid arguments").changes;
        let origin = OriginFlags::default().or(&CiContext::default());
        let event = correction(4711, event, &changes, &origin)?;
        Ok(serde_json::from_slice(event.bytes()).expect("JSON"))
    }

    #[test]
    fn a_correction_repeats_the_report_except_for_what_was_wrong() {
        let event =
            corrected("deploy.succeeded", &["--version", "v2", "--target", "eu"]).expect("a correction");
        assert_eq!(event["time"], "2026-08-01T12:00:00Z");
        assert_eq!(
            event["data"],
            json!({
                "environment": "dev", "service": "web", "target": "eu",
                "release": {"version": "v2", "commit": "6973793"}, "corrects": {"source": "ci", "id": "1"},
            })
        );
        let failed = corrected("deploy.succeeded", &["--as", "deploy.failed"]).expect("a correction");
        assert_eq!(failed["type"], "io.releaseledger.deploy.failed.v1");
    }

    #[test]
    fn only_reports_about_lanes_and_checks_are_corrected() {
        let refused =
            |kind, arguments: &[&str]| corrected(kind, arguments).expect_err("not correctable").to_string();
        for error in [
            refused("freeze.started", &["--target", "eu"]),
            refused("deploy.succeeded", &["--as", "freeze.started"]),
        ] {
            assert!(error.starts_with("entry 4711 cannot be corrected as freeze.started"), "{error}");
        }
    }
}
