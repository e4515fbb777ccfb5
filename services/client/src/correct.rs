//! `release-ledger correct`: reports an event again, and says which report it replaces.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use clap::builder::BoolishValueParser;
use ledger_api_types::EntryBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Family, Kind, ServiceName, SlotName, TargetName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ci::CiFlags;
use super::compose::{Attributes, compose_event};
use super::connection::Connection;
use super::details::OriginFlags;
use super::environment;
use super::invalid::invalid;
use super::query::{head, read, with_param};
use super::release::ReleaseFlags;
use super::session::ReportArgs;

/// Members that belong to the report, and not to what it reports: a correction has its own.
const OF_THE_REPORT: [&str; 4] = ["actor", "reason", "links", "corrects"];

/// Report a deploy, removal, switch or check again, with what was wrong corrected
///
/// Reports the same as the entry at POSITION, at the same time, except for what the flags say. From the correction's
/// position on, the first report has no effect; both stay in the history. The actor of the correction is who corrects;
/// the first report keeps its own. In a CI, its variables provide --actor, --link pipeline=… and --source; elsewhere
/// the actor is the user who runs the command.
///
/// With another --version, say for every other part of the release whether it is another one (--artifact, --config,
/// --infrastructure, --commit), the same (--keep) or unknown (--drop).
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger correct 4711 --version v2 --drop artifact,commit --reason 'The job reported the wrong version.'
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
    /// It was this version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// With another --version, these parts of the release are the same; separated by commas
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    keep: Vec<Part>,
    /// These parts of the release are unknown; separated by commas
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    drop: Vec<Part>,
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

/// A part of a release, besides its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The artifact
    Artifact,
    /// The digest of the configuration
    Config,
    /// The revision of the infrastructure code
    Infrastructure,
    /// The commit
    Commit,
}

impl Part {
    const ALL: [Self; 4] = [Self::Artifact, Self::Config, Self::Infrastructure, Self::Commit];

    /// Returns the name of the member and of the flag.
    const fn name(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Config => "config",
            Self::Infrastructure => "infrastructure",
            Self::Commit => "commit",
        }
    }
}

/// The event to correct.
#[derive(Debug, Deserialize)]
struct EventBody {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    correlationid: Option<Value>,
    data: Map<String, Value>,
}

impl Correct {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such entry, it cannot be corrected, or the correction is neither recorded nor spooled.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.changes.is_empty() {
            return Err(invalid("nothing to correct; say what was wrong by a flag such as --version"));
        }
        let origin = self.origin.or(&self.ci.context()?).or_user(environment::user())?;
        let entry = fetch(self.sending.connection().clone(), self.position).await?;
        let event = correction(self.position, correctable(entry)?, &self.changes, &origin)?;
        self.sending.send(&event).await
    }
}

async fn fetch(connection: Connection, position: u64) -> anyhow::Result<EntryBody<EventBody>> {
    let client = connection.client()?;
    let url = client.url(&["events", &position.to_string()]);
    let url = with_param(url, "wait_for", Some(head(&client).await?));
    read(&client.get(url).await?)
}

/// Returns the event of an entry that has an effect: a second correction of the same entry would undo the first one.
fn correctable(entry: EntryBody<EventBody>) -> anyhow::Result<EventBody> {
    if let Some(by) = entry.corrected_by {
        bail!("entry {} is corrected by {by}; correct {by}", entry.position);
    }
    Ok(entry.event)
}

/// Composes the correction of the event at a position.
fn correction(
    position: u64,
    event: EventBody,
    changes: &Changes,
    origin: &OriginFlags,
) -> anyhow::Result<Envelope> {
    let EventBody { id, source, kind, time, correlationid, mut data } = event;
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
    changes.apply(position, &mut data)?;
    data.insert("corrects".to_owned(), json!({"source": source, "id": id}));
    data.extend(origin.members());
    let attributes = origin.attributes(None, Some(changes.time.as_deref().unwrap_or(&time)));
    let former = correlationid.as_ref().and_then(Value::as_str);
    let attributes = Attributes { correlation: former.or(attributes.correlation), ..attributes };
    compose_event(kind, attributes, data, &[("/data/corrects", "POSITION")])
}

impl Changes {
    /// Returns true if no flag says what was wrong.
    fn is_empty(&self) -> bool {
        let Self {
            kind,
            environment,
            service,
            target,
            slot,
            version,
            release,
            keep: _,
            drop,
            deployment,
            reversible,
            time,
        } = self;
        let has_lane = environment.is_some() || service.is_some() || target.is_some() || slot.is_some();
        let has_release = !release.members(version.as_deref()).is_empty() || !drop.is_empty();
        let has_others = kind.is_some() || deployment.is_some() || reversible.is_some() || time.is_some();
        !(has_lane || has_release || has_others)
    }

    fn apply(&self, position: u64, data: &mut Map<String, Value>) -> anyhow::Result<()> {
        let members = [
            ("environment", self.environment.as_ref().map(|name| Value::from(name.as_str()))),
            ("service", self.service.as_ref().map(|name| Value::from(name.as_str()))),
            ("target", self.target.as_ref().map(|name| Value::from(name.as_str()))),
            ("slot", self.slot.as_ref().map(|name| Value::from(name.as_str()))),
            ("deployment", self.deployment.clone().map(Value::String)),
            ("reversible", self.reversible.map(Value::Bool)),
        ];
        data.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let mut release = match data.remove("release") {
            Some(Value::Object(former)) => former,
            _ => Map::new(),
        };
        let given = self.release.members(self.version.as_deref());
        self.check_parts(position, &release, &given)?;
        release.retain(|name, _| !self.drop.iter().any(|part| part.name() == name));
        release.extend(given);
        if !release.is_empty() {
            data.insert("release".to_owned(), Value::Object(release));
        }
        Ok(())
    }

    /// Checks that with another version, every part of the former release is given, kept or dropped: the artifact of
    /// one version must not become that of another.
    fn check_parts(
        &self,
        position: u64,
        former: &Map<String, Value>,
        given: &Map<String, Value>,
    ) -> anyhow::Result<()> {
        let is_other_version =
            given.get("version").is_some_and(|version| former.get("version") != Some(version));
        let mut undecided = Vec::new();
        for part in Part::ALL {
            let name = part.name();
            let wishes = [given.contains_key(name), self.keep.contains(&part), self.drop.contains(&part)];
            match wishes.into_iter().filter(|is_wish| *is_wish).count() {
                0 if is_other_version && former.contains_key(name) => undecided.push(name),
                0 | 1 => {}
                _ => {
                    let text = format!("give only one of --{name}, --keep {name} and --drop {name}");
                    return Err(invalid(text));
                }
            }
        }
        if undecided.is_empty() {
            return Ok(());
        }
        let (parts, flags) = (undecided.join(","), undecided.join(" and --"));
        Err(invalid(format!(
            "--version: entry {position} has the {} of another version; set --{flags}, or --keep {parts} if the other \
             version has the same, or --drop {parts} if it is unknown",
            undecided.join(" and ")
        )))
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
            "correlationid": "https://ci.example/1",
            "data": {
                "environment": "dev", "service": "web",
                "release": {"version": "v1", "artifact": "pkg:cargo/rand@0.9.1", "commit": "6973793"},
                "actor": {"type": "person", "name": "ada"}, "reason": "x", "corrects": {"source": "ci", "id": "0"},
            },
        });
        let event = serde_json::from_value(event).expect("an event");
        let arguments = [&["correct"][..], arguments].concat();
        let changes = Arguments::try_parse_from(arguments).expect("valid arguments").changes;
        let origin = OriginFlags::default().or(&CiContext::default()).or_user(Some("grace".to_owned()))?;
        let event = correction(4711, event, &changes, &origin)?;
        Ok(serde_json::from_slice(event.bytes()).expect("JSON"))
    }

    #[test]
    fn a_correction_repeats_the_report_except_for_what_was_wrong() {
        let wrong_version = ["--version", "v2", "--keep", "artifact", "--drop", "commit", "--target", "eu"];
        let event = corrected("deploy.succeeded", &wrong_version).expect("a correction");
        assert_eq!(event["time"], "2026-08-01T12:00:00Z");
        assert_eq!(event["correlationid"], "https://ci.example/1");
        assert_eq!(
            event["data"],
            json!({
                "environment": "dev", "service": "web", "target": "eu",
                "release": {"version": "v2", "artifact": "pkg:cargo/rand@0.9.1"},
                "actor": {"type": "person", "name": "grace"}, "corrects": {"source": "ci", "id": "1"},
            })
        );
        let failed = corrected("deploy.succeeded", &["--as", "deploy.failed"]).expect("a correction");
        assert_eq!(failed["type"], "io.releaseledger.deploy.failed.v1");
        assert_eq!(failed["data"]["release"]["commit"], "6973793");
    }

    #[test]
    fn another_version_gets_no_part_of_the_former_release_unless_the_flags_say_so() {
        let error = |arguments: &[&str]| {
            corrected("deploy.succeeded", arguments).expect_err("a part is undecided").to_string()
        };
        assert_eq!(
            error(&["--version", "v2"]),
            "--version: entry 4711 has the artifact and commit of another version; set --artifact and --commit, or \
             --keep artifact,commit if the other version has the same, or --drop artifact,commit if it is unknown"
        );
        let with_commit = error(&["--version", "v2", "--commit", "1111111"]);
        assert!(with_commit.contains("set --artifact, or --keep artifact if"), "{with_commit}");
        assert_eq!(
            error(&["--commit", "1111111", "--drop", "commit"]),
            "give only one of --commit, --keep commit and --drop commit"
        );
        let release = |arguments: &[&str]| {
            corrected("deploy.succeeded", arguments).expect("a correction")["data"]["release"].clone()
        };
        assert_eq!(release(&["--version", "v2", "--drop", "artifact,commit"]), json!({"version": "v2"}));
        assert_eq!(
            release(&["--version", "v1", "--commit", "1111111"]),
            json!({"version": "v1", "artifact": "pkg:cargo/rand@0.9.1", "commit": "1111111"})
        );
        assert_eq!(
            release(&["--drop", "commit"]),
            json!({"version": "v1", "artifact": "pkg:cargo/rand@0.9.1"})
        );
    }

    #[test]
    fn an_entry_is_corrected_once() {
        let entry = |corrected_by: &str| {
            let body = format!(
                r#"{{"position":4711,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"ab",{corrected_by}
                    "event":{{"id":"1","source":"ci","type":"io.releaseledger.deploy.succeeded.v1",
                    "time":"2026-08-01T12:00:00Z","data":{{}}}}}}"#
            );
            correctable(read(body.as_bytes()).expect("an entry")).map(|event| event.id)
        };
        assert_eq!(entry("").expect("a correctable entry"), "1");
        let error = entry(r#""corrected_by":4712,"#).expect_err("corrected before").to_string();
        assert_eq!(error, "entry 4711 is corrected by 4712; correct 4712");
    }

    #[test]
    fn nothing_is_corrected_by_keeping_a_part() {
        let changes = |arguments: &[&str]| {
            let arguments = [&["correct"][..], arguments].concat();
            Arguments::try_parse_from(arguments).expect("valid arguments").changes
        };
        assert!(changes(&[]).is_empty() && changes(&["--keep", "commit"]).is_empty());
        assert!(
            !changes(&["--drop", "commit"]).is_empty() && !changes(&["--as", "deploy.failed"]).is_empty()
        );
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
