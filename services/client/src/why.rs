//! `release-ledger why`: what set the release of a lane, and the evidence for it.

use std::cmp::Reverse;

use anyhow::anyhow;
use bytes::Bytes;
use ledger_api_types::{
    ActorRequest, EntryBody, EventsBody, GateBody, GateRequest, LaneBody, ReleaseRequest, StateBody,
};
use ledger_domain::{EnvironmentName, ServiceName, TargetName};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connection::{Client, Connection};
use super::gate;
use super::history::{self, EventBody, by, short_kind};
use super::meant::{listed, suggestion_or};
use super::output::print_notice;
use super::point_arg::time_text;
use super::query::{QueryArgs, head, read, with_param};
use super::report::Report;

/// Most entries of evidence that are read for a lane.
const MAX_EVIDENCE: usize = 200;

/// Show why a service runs what it runs: who set it, its checks and approvals, and the gate
///
/// The checks are those of the release, of its artifact, and of the whole environment since it went live. The gate's
/// answer is about a deploy of the same release now, requested by its last deployer; it needs the permission to ask the
/// gate.
#[derive(Debug, clap::Args)]
pub struct Why {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The target [default: every target at which the service runs]
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Lanes, each with its evidence.
#[derive(Debug, Serialize, Deserialize)]
struct WhyBody<E> {
    environment: String,
    lanes: Vec<LaneWhy<E>>,
}

/// Lane, with the entry that set its release, the checks and approvals of it, latest first, and the gate's answer.
#[derive(Debug, Serialize, Deserialize)]
struct LaneWhy<E> {
    lane: LaneBody,
    entry: EntryBody<E>,
    evidence: Vec<EntryBody<E>>,
    /// True if there are more entries than were read.
    is_capped: bool,
    gate: Option<GateBody>,
}

impl Why {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or the environment does not run the service.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        // All questions must see what the first one saw.
        let known = match self.query.wait_for() {
            Some(position) => position,
            None => head(&client).await?,
        };
        let url = client.url(&["environments", self.environment.as_str(), "state"]);
        let state: StateBody = read(&client.get(with_param(url, "wait_for", Some(known))).await?)?;
        let is_asked = |lane: &LaneBody| {
            lane.service == self.service.as_str()
                && self.target.as_ref().is_none_or(|target| lane.target == target.as_str())
        };
        if !state.lanes.iter().any(is_asked) {
            return Err(self.not_there(&state.lanes));
        }
        let mut lanes = Vec::new();
        for lane in state.lanes.into_iter().filter(is_asked) {
            lanes.push(self.lane(&client, lane, known).await?);
        }
        let body = WhyBody { environment: self.environment.to_string(), lanes };
        self.query.print(Bytes::from(serde_json::to_vec(&body)?), render)
    }

    /// Returns the error for a service that does not run at the target, or at all.
    fn not_there(&self, lanes: &[LaneBody]) -> anyhow::Error {
        let (environment, service) = (&self.environment, self.service.as_str());
        let of_service = lanes.iter().filter(|lane| lane.service == service);
        let targets: Vec<&str> = of_service.map(|lane| lane.target.as_str()).collect();
        match &self.target {
            Some(target) if !targets.is_empty() => {
                let advice =
                    suggestion_or(target.as_str(), &targets, &format!("it runs at {}", listed(&targets)));
                anyhow!("{service} of {environment} does not run at {target}{advice}")
            }
            _ => {
                let names: Vec<&str> = lanes.iter().map(|lane| lane.service.as_str()).collect();
                let advice = suggestion_or(service, &names, "see release-ledger state");
                anyhow!("{environment} does not run {service} there{advice}")
            }
        }
    }

    async fn lane(&self, client: &Client, lane: LaneBody, known: u64) -> anyhow::Result<LaneWhy<Value>> {
        let position = lane.since.position.to_string();
        let entry: EntryBody<Value> = read(&client.get(client.url(&["events", &position])).await?)?;
        let since = time_text(lane.since.occurred_at);
        // Checks of the whole environment name no service, and those of the artifact no environment either.
        let in_environment = |url: Url| {
            let url = with_param(url, "environment", Some(&self.environment));
            with_param(url, "since", Some(&since))
        };
        let of_service = |url: Url| {
            let url = with_param(url, "environment", Some(&self.environment));
            with_param(url, "service", Some(&self.service))
        };
        let (mut evidence, mut is_capped) = page(client, known, "validation,approval", of_service).await?;
        let (of_environment, more) = page(client, known, "validation", in_environment).await?;
        is_capped |= more;
        evidence.extend(of_environment.into_iter().filter(|entry| entry.event["data"]["service"].is_null()));
        if let Some(artifact) = &lane.release.artifact {
            let of_artifact = |url: Url| with_param(url, "artifact", Some(artifact));
            match page(client, known, "validation", of_artifact).await {
                Ok((entries, more)) => {
                    is_capped |= more;
                    let without = |entry: &EntryBody<Value>| entry.event["data"]["environment"].is_null();
                    evidence.extend(entries.into_iter().filter(without));
                }
                // Checks of artifacts belong to no environment: not everyone may read them.
                Err(error) => print_notice(&format!("without checks of the artifact: {error:#}")),
            }
        }
        evidence.retain(|entry| concerns(entry, &lane));
        evidence.sort_by_key(|entry| Reverse(entry.position));
        evidence.dedup_by_key(|entry| entry.position);
        let gate = self.ask_gate(client, &lane, &entry, known).await;
        Ok(LaneWhy { lane, entry, evidence, is_capped, gate })
    }

    /// Asks the gate about a deploy of the release. Prints why the gate gives no answer.
    async fn ask_gate(
        &self,
        client: &Client,
        lane: &LaneBody,
        entry: &EntryBody<Value>,
        known: u64,
    ) -> Option<GateBody> {
        let release = lane.release.clone();
        let request = GateRequest {
            service: lane.service.clone(),
            target: Some(lane.target.clone()),
            release: ReleaseRequest {
                version: release.version,
                artifact: release.artifact,
                config: release.config,
                infrastructure: release.infrastructure,
                commit: release.commit,
            },
            // The approval of the one who deployed it does not count.
            requester: requester(entry),
            rollback_id: None,
            new: false,
        };
        let url = client.url(&["environments", self.environment.as_str(), "gate"]);
        let answer = client.post(with_param(url, "wait_for", Some(known)), &request, None).await;
        let body = answer.map_err(anyhow::Error::from).and_then(|body| read(&body));
        match body {
            Ok(body) => Some(body),
            Err(error) => {
                print_notice(&format!("the gate gives no answer: {error:#}"));
                None
            }
        }
    }
}

/// Fetches the latest entries of some types; true if there are more than are read.
async fn page(
    client: &Client,
    known: u64,
    kinds: &str,
    conditions: impl FnOnce(Url) -> Url,
) -> anyhow::Result<(Vec<EntryBody<Value>>, bool)> {
    let url = with_param(conditions(client.url(&["events"])), "type", Some(kinds));
    // One more than is kept: a page with just as many entries as are kept is complete.
    let url = with_param(with_param(url, "order", Some("desc")), "limit", Some(MAX_EVIDENCE + 1));
    let mut page: EventsBody<Value> = read(&client.get(with_param(url, "wait_for", Some(known))).await?)?;
    page.events.truncate(MAX_EVIDENCE);
    Ok((page.events, page.next.is_some()))
}

/// Returns the actor of the deploy, by the sender or only claimed.
fn requester(entry: &EntryBody<Value>) -> Option<ActorRequest> {
    let claimed = &entry.event["data"]["actor"];
    let (kind, name) = match &entry.actor {
        Some(actor) => (actor.kind.as_str(), actor.name.as_str()),
        None => (claimed["type"].as_str()?, claimed["name"].as_str()?),
    };
    Some(ActorRequest { kind: kind.to_owned(), name: name.to_owned() })
}

/// Returns true if a check or an approval concerns the release of a lane: it names its version or none, and its target or
/// none.
fn concerns(entry: &EntryBody<Value>, lane: &LaneBody) -> bool {
    let data = &entry.event["data"];
    let version = data["release"]["version"].as_str().or_else(|| data["version"].as_str());
    let names_version = version.is_none_or(|version| version == lane.release.version);
    names_version && data["target"].as_str().is_none_or(|target| target == lane.target)
}

fn render(body: &WhyBody<EventBody>) -> Report {
    let mut report = Report::default();
    for LaneWhy { lane, entry, evidence, is_capped, gate } in &body.lanes {
        let by = by(entry);
        let by = if by.is_empty() { "an unknown actor" } else { &by };
        report = report
            .with_line(format!(
                "{} of {} at {} runs {} since {} (position {})",
                lane.service,
                body.environment,
                lane.target,
                lane.release.version,
                time_text(lane.since.occurred_at),
                lane.since.position
            ))
            .with_line(format!("set by {by} with {}", short_kind(&entry.event.kind)))
            .with_line_if(evidence.is_empty().then(|| "no checks and no approvals".to_owned()))
            .with_table(history::table(evidence.iter()).if_empty(""))
            .with_line_if(is_capped.then(|| {
                format!(
                    "only the latest {MAX_EVIDENCE} entries of each kind of evidence were read; see \
                     release-ledger history"
                )
            }));
        if let Some(gate) = gate {
            report = report.with_line("gate for a deploy of it now:").with_report(gate::render(gate));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: &str = r#"{"service":"api","target":"default","release":{"version":"v1"},
        "since":{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}}"#;

    fn entry(position: u64, kind: &str, data: &str) -> String {
        format!(
            r#"{{"position":{position},"recorded_at":"2026-08-01T12:00:01Z","event":{{
                "type":"io.releaseledger.{kind}.v1","time":"2026-08-01T12:00:00Z","data":{data}}}}}"#
        )
    }

    #[test]
    fn evidence_concerns_the_release_if_it_names_its_version_or_none() {
        let lane: LaneBody = read(LANE.as_bytes()).expect("a lane");
        let is_evidence = |data: &str| {
            concerns(&read(entry(4, "validation.passed", data).as_bytes()).expect("an entry"), &lane)
        };
        assert!(is_evidence(r#"{"release":{"version":"v1"}}"#) && is_evidence("{}"));
        assert!(!is_evidence(r#"{"release":{"version":"v2"}}"#) && !is_evidence(r#"{"target":"eu"}"#));
    }

    #[test]
    fn the_requester_is_the_sender_or_who_is_claimed() {
        let deploy = |data: &str| -> EntryBody<Value> {
            read(entry(3, "deploy.succeeded", data).as_bytes()).expect("an entry")
        };
        let claimed = requester(&deploy(r#"{"actor":{"type":"person","name":"ada"}}"#));
        assert_eq!(claimed.map(|actor| (actor.kind, actor.name)), Some(("person".into(), "ada".into())));
        assert!(requester(&deploy("{}")).is_none());
    }

    #[test]
    fn a_lane_is_shown_with_who_set_it_and_the_evidence() {
        let deploy =
            entry(3, "deploy.succeeded", r#"{"service":"api","actor":{"type":"person","name":"ada"}}"#);
        let check = entry(4, "validation.passed", r#"{"service":"api","check":"e2e"}"#);
        let json = format!(
            r#"{{"environment":"dev","lanes":[
                {{"lane":{LANE},"entry":{deploy},"evidence":[{check}],"is_capped":true,"gate":null}}]}}"#
        );
        render(&read(json.as_bytes()).expect("a body")).check_fits();
        assert_eq!(
            render(&read(json.as_bytes()).expect("a body")).to_string(),
            "api of dev at default runs v1 since 2026-08-01T12:00:00Z (position 3)\n\
             set by ada (claimed) with deploy.succeeded\n\
             position  time                  type               service  summary\n\
             4         2026-08-01T12:00:00Z  validation.passed  api      e2e\n\
             only the latest 200 entries of each kind of evidence were read; see release-ledger history"
        );
    }
}
