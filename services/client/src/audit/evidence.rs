//! Findings of an audit in the entries themselves: freezes, rollbacks that do not exist, and backdated reports.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use ledger_api_types::{EntryBody, EventsBody, RollbackBody};
use ledger_domain::{EnvironmentName, FreezePeriod, ShortText, parse_time};

use crate::connection::Client;
use crate::fetch_rollback::find_rollback;
use crate::history::{EventBody, short_kind};
use crate::query::{read, with_param};
use crate::targets::DEFAULT_TARGET;

/// Entries of a page of the service.
pub(super) const PAGE: usize = 1000;

/// Most changes and findings that a report has. More are an error, which asks for a shorter time.
const MAX_FINDINGS: usize = 10_000;

/// Entries by position.
pub(super) type Entries = BTreeMap<u64, EntryBody<EventBody>>;

/// Checks that there are not too many changes or findings.
///
/// # Errors
/// There are.
pub(super) fn check_count(count: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        count <= MAX_FINDINGS,
        "more than {MAX_FINDINGS} changes to audit: ask for a shorter time"
    );
    Ok(())
}

/// Freezes of the environment, and the rollbacks that entries name.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    freezes: Vec<RecordedFreeze>,
    /// Rollbacks by id; `None`: there is none.
    rollbacks: HashMap<String, Option<RollbackBody>>,
    environment: String,
}

/// A freeze of the environment, with the period in which it holds.
#[derive(Debug, Clone)]
struct RecordedFreeze {
    id: String,
    period: FreezePeriod,
}

/// Returns the time at which an entry's event occurred.
pub(super) fn occurred_at(entry: &EntryBody<EventBody>) -> DateTime<Utc> {
    parse_time(&entry.event.time).unwrap_or(entry.recorded_at)
}

impl Evidence {
    /// Fetches the freezes, and the rollbacks that the entries name.
    pub(super) async fn fetch(
        client: &Client,
        environment: &EnvironmentName,
        entries: &Entries,
        known: u64,
    ) -> anyhow::Result<Self> {
        let mut evidence = Self { environment: environment.to_string(), ..Self::default() };
        let mut after = 0;
        loop {
            let url = with_param(client.url(&["events"]), "environment", Some(environment));
            let url = with_param(with_param(url, "type", Some("freeze")), "after", Some(after));
            let url = with_param(with_param(url, "limit", Some(PAGE)), "wait_for", Some(known));
            let page: EventsBody<EventBody> = read(&client.get(url).await?)?;
            page.events.iter().filter(|entry| entry.position <= known).for_each(|it| evidence.add_freeze(it));
            check_count(evidence.freezes.len())?;
            match page.next.filter(|next| *next > after) {
                Some(next) => after = next,
                None => break,
            }
        }
        for id in entries.values().filter_map(|entry| entry.event.data.rollback_id.as_ref()) {
            if !evidence.rollbacks.contains_key(id) {
                let rollback = match ShortText::stored(id) {
                    Ok(rollback_id) => find_rollback(client, &rollback_id).await?,
                    Err(_) => None,
                };
                evidence.rollbacks.insert(id.clone(), rollback);
            }
        }
        Ok(evidence)
    }

    fn add_freeze(&mut self, entry: &EntryBody<EventBody>) {
        let (Some(id), None) = (&entry.event.data.freeze_id, entry.repeats) else { return };
        let time = occurred_at(entry);
        if short_kind(&entry.event.kind) == "freeze.started" {
            let until = entry.event.data.until.as_deref().and_then(|text| parse_time(text).ok());
            let period = FreezePeriod { started_at: time, until, lifted_at: None };
            self.freezes.push(RecordedFreeze { id: id.clone(), period });
        } else {
            let of_name = self.freezes.iter_mut().filter(|freeze| freeze.id == *id);
            for freeze in of_name.filter(|freeze| freeze.period.lifted_at.is_none()) {
                freeze.period.lifted_at = Some(time);
            }
        }
    }

    /// Returns the findings about an entry, each with its explanation. Reports that are recorded `late_by` after they
    /// occurred are backdated; `None`: they are imported, and may be.
    pub(super) fn findings(
        &self,
        entry: &EntryBody<EventBody>,
        late_by: Option<TimeDelta>,
    ) -> Vec<(&'static str, String)> {
        let has = |name: &str| entry.anomalies.iter().any(|noted| noted == name);
        let time = occurred_at(entry);
        let rollback_id = entry.event.data.rollback_id.as_ref();
        let claim = rollback_id.map(|id| self.check_step(id, entry));
        let is_step = matches!(claim, Some(Ok(())));
        let mut found = Vec::new();
        if let Some(Err(detail)) = claim {
            found.push(("unknown_rollback", detail));
        }
        let is_frozen = self.freezes.iter().any(|freeze| freeze.period.holds_at(time));
        if !is_step && (has("during_freeze") || is_frozen) {
            found.push(("during_freeze", "it occurred during a freeze".to_owned()));
        }
        if has("late") {
            found.push(("late", "it was recorded after a later change".to_owned()));
        }
        let Some(late_by) = late_by else { return found };
        if entry.recorded_at - time > late_by {
            let minutes = (entry.recorded_at - time).num_minutes();
            found.push(("backdated", format!("it was recorded {minutes} min after it occurred")));
        }
        let started_later = |freeze: &&RecordedFreeze| {
            time < freeze.period.started_at && freeze.period.started_at <= entry.recorded_at
        };
        let crossed = self.freezes.iter().find(started_later);
        if let Some(freeze) = crossed.filter(|_| !is_step) {
            let detail = format!("the freeze {} started between its time and its recording", freeze.id);
            found.push(("across_freeze", detail));
        }
        found
    }

    /// Checks that an entry is a step of a rollback that had started.
    ///
    /// # Errors
    /// Says why it is none.
    fn check_step(&self, id: &str, entry: &EntryBody<EventBody>) -> Result<(), String> {
        let rollback = self.rollbacks.get(id).and_then(Option::as_ref);
        let rollback = rollback.filter(|rollback| rollback.environment == self.environment);
        let Some(rollback) = rollback else {
            return Err(format!("{id} is no rollback of {}", self.environment));
        };
        if rollback.started.is_none_or(|started| entry.position < started) {
            return Err(format!("rollback {id} had not started"));
        }
        let data = &entry.event.data;
        let target = entry.target.as_deref().unwrap_or(DEFAULT_TARGET);
        let version = data.release.as_ref().map(|release| &release.version);
        let is_step = rollback.steps.iter().flatten().map(|state| &state.step).any(|step| {
            let restored = step.to.as_ref().map(|release| &release.version);
            let is_same = match short_kind(&entry.event.kind) {
                "deploy.removed" => restored.is_none(),
                _ => version.is_none() || version == restored,
            };
            data.service.as_ref() == Some(&step.service) && target == step.target && is_same
        });
        if is_step { Ok(()) } else { Err(format!("it is no step of rollback {id}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, recorded: &str, anomalies: &str, data: &str) -> EntryBody<EventBody> {
        let json = format!(
            r#"{{"position":7,"recorded_at":"2026-08-01T{recorded}Z","anomalies":[{anomalies}],"event":{{
                "type":"io.releaseledger.{kind}.v1","time":"2026-08-01T12:00:00Z","data":{data}}}}}"#
        );
        read(json.as_bytes()).expect("an entry")
    }

    fn deploy(recorded: &str, anomalies: &str, rollback: &str) -> EntryBody<EventBody> {
        let data = format!(r#"{{"service":"api","release":{{"version":"v1"}}{rollback}}}"#);
        entry("deploy.succeeded", recorded, anomalies, &data)
    }

    fn names(evidence: &Evidence, entry: &EntryBody<EventBody>) -> Vec<&'static str> {
        let found = evidence.findings(entry, Some(TimeDelta::hours(1)));
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn an_entry_during_a_freeze_or_late_is_a_finding_and_another_anomaly_is_none() {
        let evidence = Evidence::default();
        let noted = deploy("12:00:01", r#""during_freeze","late","ambiguous_target""#, "");
        assert_eq!(names(&evidence, &noted), ["during_freeze", "late"]);
        assert!(names(&evidence, &deploy("12:00:01", "", "")).is_empty());
    }

    #[test]
    fn a_report_that_was_recorded_long_after_it_occurred_is_backdated_unless_it_was_imported() {
        let evidence = Evidence::default();
        assert!(names(&evidence, &deploy("13:00:00", "", "")).is_empty());
        assert_eq!(names(&evidence, &deploy("13:00:01", "", "")), ["backdated"]);
        assert!(evidence.findings(&deploy("23:00:00", "", ""), None).is_empty());
    }

    #[test]
    fn a_report_from_before_a_freeze_that_started_before_it_was_recorded_is_a_finding() {
        let mut evidence = Evidence::default();
        let mut freeze = entry("freeze.started", "12:30:00", "", r#"{"freeze_id":"sale"}"#);
        freeze.event.time = "2026-08-01T12:10:00Z".to_owned();
        evidence.add_freeze(&freeze);
        assert!(names(&evidence, &deploy("12:09:59", "", "")).is_empty());
        assert_eq!(names(&evidence, &deploy("12:10:00", "", "")), ["across_freeze"]);
    }

    #[test]
    fn the_name_of_a_rollback_excuses_only_the_steps_of_one_that_had_started() {
        let rollback = |started: u64, version: &str| -> RollbackBody {
            let json = format!(
                r#"{{"rollback_id":"r-1","environment":"production","position":9,"phase":"succeeded",
                    "initiated_by":{{"type":"person","name":"ada"}},
                    "requested":{{"position":3,"recorded_at":"2026-08-01T11:00:00Z"}},"started":{started},"to":1,
                    "plan_digest":"sha256:0","approvals":{{"wanted":0,"granted":0}},
                    "progress":{{"done":1,"failed":0,"total":1}},"steps":[{{"wave":1,"service":"api",
                    "target":"default","action":"redeploy","to":{{"version":"{version}"}},"state":"done"}}]}}"#
            );
            read(json.as_bytes()).expect("a rollback")
        };
        let claimed = deploy("12:00:01", "", r#","rollback_id":"r-1""#);
        let from = "2026-08-01T11:30:00Z".parse().expect("a time");
        let freeze = RecordedFreeze {
            id: "sale".to_owned(),
            period: FreezePeriod { started_at: from, until: None, lifted_at: None },
        };
        for (rollback, expected) in [
            (None, vec!["unknown_rollback", "during_freeze"]),
            (Some(rollback(8, "v1")), vec!["unknown_rollback", "during_freeze"]),
            (Some(rollback(4, "v2")), vec!["unknown_rollback", "during_freeze"]),
            (Some(rollback(4, "v1")), vec![]),
        ] {
            let evidence = Evidence {
                freezes: vec![freeze.clone()],
                rollbacks: HashMap::from([("r-1".to_owned(), rollback)]),
                environment: "production".to_owned(),
            };
            assert_eq!(names(&evidence, &claimed), expected);
        }
    }
}
