//! `release-ledger history`: the entries of the ledger.

mod filter;
mod follow;

use std::process::ExitCode;

use chrono::DateTime;
use ledger_api_types::{CountsBody, EntryBody, EventsBody};
use ledger_domain::{EnvironmentName, ServiceName};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use self::filter::FilterArgs;

use super::connection::{Client, Connection};
use super::counts::nonzero_counts;
use super::invalid::invalid;
use super::known::{unknown_environment, unknown_service};
use super::output::{print_notice, shown_json};
use super::pager::Pager;
use super::point_arg::{PositionSpec, parse_position};
use super::query::{QueryArgs, head, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, column, wide_column};
use super::targets::DEFAULT_TARGET;
use super::yaml;

/// Number of positions before the end that `--follow` shows first by default.
const DEFAULT_FOLLOW_LIMIT: u32 = 10;

/// Entries of a page, at most.
const MAX_LIMIT: u32 = 1000;

/// Flags that have no meaning with `--follow`.
const NOT_FOLLOWED: [&str; 7] =
    ["wait_for", "before", "oldest_first", "format", "no_headers", "since", "until"];

/// Show the entries of the ledger, the newest first
///
/// All given conditions must hold. A page has up to 1000 entries; if there may be more, the last line says
/// how to continue (on stderr, if the output is for programs). --all prints the entries of all pages. `--output wide` also shows when the ledger recorded each entry, by its own clock.
///
/// With --follow, each further entry is printed when it is recorded, one line each, until Ctrl-C (exit 130). A lost
/// connection is opened again after the last entry, so that none is missing or printed twice; stderr says so. The
/// command ends with 0 if the reader of its output ends, as in `| head`, and with 1 if the ledger cannot be
/// reached at the start, or rejects the request.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Only entries of this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// Only entries of this service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only entries after this position, or after the entry of a point such as `production@-1`; without --before, the
    /// oldest first. --since takes a time
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = parse_position)]
    after: Option<PositionSpec>,
    /// Only entries before this position, or before the entry of a point
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = parse_position,
        conflicts_with = "oldest_first")]
    before: Option<PositionSpec>,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
    /// At most this many: 1 to 1000 [default: 100]. With --follow: first those of the last NUMBER positions
    /// [default: 10], unless --after is given
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// All of them, page by page. With --json, one entry a line; with --output yaml, one document an entry
    #[arg(long, conflicts_with_all = ["follow", "limit"])]
    all: bool,
    /// Print the latest entries, then each further one when it is recorded; with --json, one entry a line
    #[arg(long, conflicts_with_all = NOT_FOLLOWED)]
    follow: bool,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Positions between which the entries are, without those positions.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    after: Option<u64>,
    before: Option<u64>,
}

/// An event, limited to the members that a line shows.
#[derive(Debug, Deserialize)]
pub(super) struct EventBody {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: String,
    pub(super) time: String,
    #[serde(default)]
    pub(super) data: DataBody,
}

/// The members of an event's data that a line shows; any may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DataBody {
    environment: Option<String>,
    pub(super) service: Option<String>,
    target: Option<String>,
    slot: Option<String>,
    pub(super) release: Option<VersionBody>,
    version: Option<String>,
    commit: Option<String>,
    artifact: Option<String>,
    check: Option<String>,
    counts: Option<Value>,
    pub(super) rollback_id: Option<String>,
    pub(super) freeze_id: Option<String>,
    pub(super) until: Option<String>,
    incident_id: Option<String>,
    activity: Option<String>,
    subject: Option<String>,
    token: Option<String>,
    grant: Option<String>,
    name: Option<String>,
    reason: Option<String>,
    actor: Option<ActorBody>,
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionBody {
    pub(super) version: String,
    artifact: Option<String>,
    commit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ActorBody {
    name: String,
}

impl History {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or rejects a condition.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.clone().client()?;
        let bounds = self.bounds(&client).await?;
        if self.follow {
            return self.follow(&client, bounds.after).await;
        }
        if self.all {
            self.print_all(&client, bounds).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let url = self.filter.apply(self.in_lane(client.url(&["events"])));
        let newest_first = self.is_newest_first();
        let url = with_param(url, "order", newest_first.then_some("desc"));
        let url = with_param(with_param(url, "after", bounds.after), "before", bounds.before);
        let url = with_param(url, "limit", self.limit);
        let body = self.query.fetch(&client, url).await?;
        let page: EventsBody<EventBody> = read(&body)?;
        self.query.print(body, |body: &EventsBody<EventBody>| render(body, newest_first))?;
        if page.events.is_empty() && page.next.is_none() {
            self.print_unknown_names(&client).await;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the positions of --after and --before.
    async fn bounds(&self, client: &Client) -> anyhow::Result<Bounds> {
        let (environment, wait_for) = (self.environment.as_ref(), self.query.wait_for());
        let after =
            PositionSpec::resolve_optional(self.after.as_ref(), client, environment, wait_for).await?;
        let before =
            PositionSpec::resolve_optional(self.before.as_ref(), client, environment, wait_for).await?;
        Ok(Bounds { after, before })
    }

    /// Prints a note about an environment or a service that no event names.
    async fn print_unknown_names(&self, client: &Client) {
        if let Some(environment) = &self.environment
            && let Some(note) = unknown_environment(client, environment).await
        {
            print_notice(&note);
        }
        if let Some(service) = &self.service
            && let Some(note) = unknown_service(client, service).await
        {
            print_notice(&note);
        }
    }

    fn is_newest_first(&self) -> bool {
        !self.oldest_first && (self.after.is_none() || self.before.is_some())
    }

    /// Prints the entries of all pages, up to the end of the ledger when the command started.
    async fn print_all(&self, client: &Client, bounds: Bounds) -> anyhow::Result<()> {
        let known = head(client).await?.max(self.query.wait_for().unwrap_or_default());
        let newest_first = self.is_newest_first();
        let base = self.filter.apply(self.in_lane(client.url(&["events"])));
        let base = with_param(base, "order", newest_first.then_some("desc"));
        let base = with_param(with_param(base, "limit", Some(MAX_LIMIT)), "wait_for", Some(known));
        let end = known.saturating_add(1);
        let mut before = bounds.before.unwrap_or(end).min(end);
        let mut after = bounds.after.unwrap_or_default();
        let mut is_first = true;
        let mut pager = self.query.pager();
        loop {
            let url = with_param(base.clone(), "before", newest_first.then_some(before));
            let mut page: EventsBody = read(&client.get(with_param(url, "after", Some(after))).await?)?;
            let next = page.next.take();
            page.events.retain(|entry| entry.position <= known);
            if is_first || !page.events.is_empty() {
                self.print_page(&mut pager, &page, is_first)?;
            }
            is_first = false;
            match next.filter(|_| !pager.is_closed()) {
                // A service that repeats a cursor must not keep the command busy.
                Some(next) if newest_first && next < before => before = next,
                Some(next) if !newest_first && next > after && next < known => after = next,
                _ => return Ok(()),
            }
        }
    }

    fn print_page(&self, pager: &mut Pager, page: &EventsBody, is_first: bool) -> anyhow::Result<()> {
        if self.query.is_json() {
            for entry in &page.events {
                // Line breaks in JSON stand between its tokens only.
                let line = serde_json::to_string(entry)?.replace(['\n', '\r'], " ");
                pager.write(shown_json(line.as_bytes()).as_bytes())?;
            }
            return Ok(());
        }
        if self.query.is_yaml() {
            for entry in &page.events {
                pager.write(format!("---\n{}", yaml::from_json(&serde_json::to_vec(entry)?)?).as_bytes())?;
            }
            return Ok(());
        }
        self.query.print_page(pager, &serde_json::to_vec(page)?, is_first, |body: &EventsBody<EventBody>| {
            Report::default().with_table(table(body.events.iter()))
        })
    }

    async fn follow(&self, client: &Client, after: Option<u64>) -> anyhow::Result<ExitCode> {
        if after.is_some() && self.limit.is_some() {
            return Err(invalid(
                "--limit has no meaning with --follow and --after, which shows all entries; leave one out",
            ));
        }
        // Also if --after is given: a service that cannot be reached at the start is an error.
        let head = head(client).await?;
        let shown = u64::from(self.limit.unwrap_or(DEFAULT_FOLLOW_LIMIT));
        let after = after.unwrap_or_else(|| head.saturating_sub(shown));
        let url = self.filter.apply(self.in_lane(client.url(&["events", "stream"])));
        follow::follow(client, url, after, self.query.is_json()).await
    }

    /// Adds the conditions on the lane to a URL.
    fn in_lane(&self, url: Url) -> Url {
        let url = with_param(url, "environment", self.environment.as_ref());
        with_param(url, "service", self.service.as_ref())
    }
}

/// Reports a page of entries.
pub(super) fn render(body: &EventsBody<EventBody>, newest_first: bool) -> Report {
    let cursor = if newest_first { "--before" } else { "--after" };
    let more = body.next.map(|next| format!("there may be more: {cursor} {next}"));
    Report::default().with_table(table(body.events.iter())).with_line_if(more)
}

/// Returns the table of entries.
pub(super) fn table<'e>(entries: impl Iterator<Item = &'e EntryBody<EventBody>>) -> Table {
    let columns = [
        column("position", 1),
        column("time", 0),
        column("type", 0),
        column("environment", 2),
        column("service", 0),
        column("target", 4).unless_all(DEFAULT_TARGET),
        column("summary", 0).narrow(),
        column("cases", 6),
        column("by", 3).narrow(),
        column("note", 5),
        wide_column("recorded"),
        wide_column("commit"),
        wide_column("artifact"),
    ];
    Table::new(columns).if_empty("no entries").with_rows(entries.map(row))
}

/// Returns the short name of an event's type: `deploy.succeeded`.
pub(super) fn short_kind(kind: &str) -> &str {
    let kind = kind.strip_prefix("io.releaseledger.").unwrap_or(kind);
    kind.strip_suffix(".v1").unwrap_or(kind)
}

/// Returns the cell of an event's time.
fn time_cell(text: &str) -> Cell {
    DateTime::parse_from_rfc3339(text).map_or_else(|_| text.into(), |time| time.to_utc().into())
}

fn row(entry: &EntryBody<EventBody>) -> [Cell; 13] {
    let (event, data) = (&entry.event, &entry.event.data);
    let kind = short_kind(&event.kind);
    let note = match (entry.repeats, entry.corrected_by) {
        (Some(position), _) => format!("repeats {position}"),
        (None, Some(position)) => format!("corrected by {position}"),
        (None, None) => entry.anomalies.join(", "),
    };
    // A switch names only a slot: add the version that it made live.
    let went_live = entry.went_live.as_ref().filter(|_| kind.contains("traffic.switched"));
    let went_live = went_live.map(|version| format!(" → {version}")).unwrap_or_default();
    let release = data.release.as_ref();
    let commit = release.and_then(|release| release.commit.clone()).or_else(|| data.commit.clone());
    let artifact = release.and_then(|release| release.artifact.clone()).or_else(|| data.artifact.clone());
    [
        entry.position.into(),
        time_cell(&event.time),
        kind.into(),
        data.environment.clone().into(),
        data.service.clone().into(),
        entry.target.as_ref().or(data.target.as_ref()).cloned().into(),
        format!("{}{went_live}", summary(kind, data)).into(),
        case_counts(kind, data).map(nonzero_counts).into(),
        by(entry).into(),
        note.into(),
        entry.recorded_at.into(),
        commit.map(Cell::Digest).into(),
        artifact.map(Cell::Digest).into(),
    ]
}

/// Returns the actor of an entry. Without an authenticated sender, the actor is only claimed.
pub(super) fn by(entry: &EntryBody<EventBody>) -> String {
    match (&entry.actor, &entry.event.data.actor) {
        (Some(actor), _) => actor.name.clone(),
        (None, Some(claimed)) => format!("{} (claimed)", claimed.name),
        (None, None) => String::new(),
    }
}

/// Summarizes what distinguishes an entry from others of its kind, such as the release.
fn summary(kind: &str, data: &DataBody) -> String {
    let version = data.release.as_ref().map(|release| &release.version).or(data.version.as_ref());
    let artifact = data.artifact.as_ref().filter(|_| data.environment.is_none());
    // Shorten an artifact to its name; the digest would fill the line.
    let artifact = artifact.map(|artifact| artifact.split('@').next().unwrap_or(artifact).to_owned());
    let parts = [
        data.check.clone(),
        artifact,
        version.cloned(),
        data.slot.as_ref().map(|slot| format!("({slot})")),
        data.freeze_id.clone(),
        data.incident_id.clone(),
        data.activity.clone(),
        data.subject.clone(),
        data.rollback_id.clone(),
        data.token.clone(),
        data.grant.clone(),
        data.name.clone().filter(|_| kind.contains("token.")),
        // The reason is all the content of a declined rollback.
        data.reason.clone().filter(|_| kind.contains("rollback.declined")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Returns the case counts of the result of a check. Those that an event does not state are 0.
fn case_counts(kind: &str, data: &DataBody) -> Option<CountsBody> {
    let is_result = ["validation.passed", "validation.failed"].iter().any(|result| kind.contains(result));
    let counts = data.counts.as_ref().filter(|counts| is_result && counts.is_object())?;
    let count = |name: &str| counts[name].as_u64().unwrap_or_default();
    Some(CountsBody { passed: count("passed"), failed: count("failed"), skipped: count("skipped") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Layout;

    fn rendered(json: &str) -> String {
        render(&read(json.as_bytes()).expect("a body"), false).to_string()
    }

    #[test]
    fn an_entry_is_one_line_with_its_distinguishing_members() {
        let text = rendered(
            r#"{"position":9,"next":4,"events":[
              {"position":1,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","event":{
                "type":"io.releaseledger.artifact.built.v1","time":"2026-08-01T12:00:00Z",
                "data":{"artifact":"pkg:oci/web@sha256:abc","version":"v1","actor":{"type":"workload","name":"ci"}}}},
              {"position":2,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","event":{
                "type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T13:00:00Z",
                "data":{"environment":"production","service":"web","target":"eu","slot":"blue",
                        "release":{"version":"v1","artifact":"pkg:oci/web@sha256:abc"}}}},
              {"position":3,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","anomalies":["switched_to_empty_slot"],
                "target":"default","event":{"type":"io.releaseledger.traffic.switched.v1","time":"2026-08-01T14:00:00Z",
                "data":{"environment":"production","service":"web","slot":"green","rollback_id":"r1"}}},
              {"position":4,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","repeats":2,
                "actor":{"type":"person","name":"ada"},
                "event":{"type":"io.releaseledger.validation.passed.v1","time":"2026-08-01T15:00:00Z",
                "data":{"environment":"production","check":"e2e"}}}]}"#,
        );
        assert_eq!(
            text,
            "position  time                  type               environment  service  target   summary         by            note\n\
             1         2026-08-01T12:00:00Z  artifact.built                                    pkg:oci/web v1  ci (claimed)\n\
             2         2026-08-01T13:00:00Z  deploy.succeeded   production   web      eu       v1 (blue)\n\
             3         2026-08-01T14:00:00Z  traffic.switched   production   web      default  (green) r1                    switched_to_empty_slot\n\
             4         2026-08-01T15:00:00Z  validation.passed  production                     e2e             ada           repeats 2\n\
             there may be more: --after 4"
        );
    }

    #[test]
    fn the_result_of_a_check_is_shown_with_its_counts() {
        let line = |kind: &str, data: &str| {
            let text = rendered(&format!(
                r#"{{"position":9,"events":[{{"position":1,"recorded_at":"2026-08-01T12:00:01Z","event":{{
                  "type":"io.releaseledger.{kind}.v1","time":"2026-08-01T12:00:00Z",
                  "data":{{"check":"e2e","release":{{"version":"v1"}}{data}}}}}}}]}}"#
            ));
            text.lines().last().map(str::to_owned).unwrap_or_default()
        };
        let stated = line("validation.failed", r#","counts":{"passed":11,"failed":2}"#);
        assert!(stated.ends_with("e2e v1   11 passed, 2 failed"), "{stated}");
        for none in [
            line("validation.passed", ""),
            line("validation.passed", r#","counts":7"#),
            line("validation.started", r#","counts":{"skipped":3}"#),
        ] {
            assert!(none.ends_with("e2e v1"), "{none}");
        }
    }

    #[test]
    fn a_history_with_long_values_fits_into_80_columns() {
        let json = format!(
            r#"{{"position":9,"next":4,"events":[{{"position":123456789,"recorded_at":"2026-08-01T12:00:01Z",
              "leaf_hash":"a","anomalies":["switched_to_empty_slot","during_freeze"],"target":"on-premise-frankfurt",
              "event":{{"type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T13:00:00Z","data":{{
                "environment":"production-eu-central-1","service":"search-api-gateway","slot":"blue",
                "rollback_id":"rb-2026-08-01-1","actor":{{"type":"person","name":"ada.lovelace@example.test"}},
                "release":{{"version":"2026.08.03-{}"}}}}}}}}]}}"#,
            "a".repeat(8)
        );
        render(&read(json.as_bytes()).expect("a body"), true).check_fits();
    }

    #[test]
    fn a_history_keeps_position_environment_and_actor_in_80_columns() {
        let json = r#"{"position":9,"events":[{"position":1234,"recorded_at":"2026-08-01T12:00:01Z",
            "leaf_hash":"a","anomalies":["switched_to_empty_slot"],"target":"eu","event":{
              "type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T13:00:00Z","data":{
                "environment":"production","service":"web","actor":{"type":"person","name":"ada"},
                "release":{"version":"v12"}}}}]}"#;
        let body: EventsBody<EventBody> = read(json.as_bytes()).expect("a body");
        let now = "2026-08-05T12:00:00Z".parse().expect("a time");
        let layout = Layout { width: Some(80), compact: Some(now), ..Layout::PLAIN };
        assert_eq!(table(body.events.iter()).left_out(layout), ["target", "note"]);
    }

    #[test]
    fn an_empty_history_is_reported() {
        assert_eq!(rendered(r#"{"position":0,"events":[]}"#), "no entries");
    }
}
