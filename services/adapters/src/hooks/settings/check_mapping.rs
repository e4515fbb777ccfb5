//! Checks of the ledger that runs, jobs and alerts perform.

use ledger_domain::{EnvironmentName, ServiceName, ShortText, TargetName};
use serde::Deserialize;

use super::kind::HookKind;
use crate::text;

/// Events of runs whose message does not name the lane that they check.
const RUNS: &[&str] = &["workflow_run", "check_suite", "check_run", "pipeline", "job"];

/// Events whose lane a check can state.
const WITH_LANE: &[&str] = &["workflow_run", "check_suite", "check_run", "pipeline", "job", "alert"];

/// Events of runs that state their trigger.
const WITH_TRIGGER: &[&str] = &["workflow_run", "pipeline"];

/// A check of the ledger by the run, job or alert that performs it.
///
/// Only what is mapped becomes a validation; everything else is recorded as an activity, without an effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckMapping {
    /// Kind of run that performs the check: `workflow_run`, `check_suite` or `check_run` at GitHub; `pipeline` or `job` at
    /// GitLab; `health` in Argo CD; `test` in Flux; `alert` in Alertmanager.
    pub event: String,
    /// Name of the workflow, app, check run, pipeline, job, application or alert; `*` stands for any characters.
    pub name: String,
    /// Name of the check.
    pub check: String,
    /// Environment whose lane, or whose composition, is checked. Required for runs and jobs; an alert names it itself if it
    /// is left out, and messages of Argo CD and Flux always do.
    pub environment: Option<String>,
    /// Service that is checked; that of the message if it is left out.
    pub service: Option<String>,
    /// Target that is checked; all targets of the service if it is left out.
    pub target: Option<String>,
    /// True if the environment as a whole is checked, and no single service.
    #[serde(default)]
    pub whole_environment: bool,
    /// Branches and tags whose runs count; `*` stands for any characters. If it is left out: the default branch. Required
    /// for check runs, check suites and jobs, which do not state their trigger.
    pub branches: Option<Vec<String>>,
    /// Triggers of workflow runs and pipelines that count: `event` of GitHub's runs, `source` of GitLab's pipelines. If it
    /// is left out: what runs on a schedule, by hand or by the API. Runs for pull requests and merge requests never count.
    /// Add `deployment_status` only to a workflow that runs after deploys to this environment, and to no other.
    pub triggers: Option<Vec<String>>,
    /// True if the check is about the commit of the run, and counts only where that commit is deployed as a version.
    #[serde(default)]
    pub of_commit: bool,
}

impl CheckMapping {
    /// Returns the check of an alert that names it by a label.
    pub(in crate::hooks) fn of_alert(check: &str) -> Self {
        Self {
            event: "alert".to_owned(),
            name: "*".to_owned(),
            check: check.to_owned(),
            environment: None,
            service: None,
            target: None,
            whole_environment: false,
            branches: None,
            triggers: None,
            of_commit: false,
        }
    }

    /// Returns true if a run, job or alert with this name may perform the check.
    pub(in crate::hooks) fn is_of(&self, event: &str, name: &str) -> bool {
        self.event == event && text::matches(&self.name, name)
    }

    /// Checks that the settings are valid and have an effect. Returns the first fault.
    pub(in crate::hooks) fn check(&self, kind: HookKind) -> Result<(), String> {
        let events = kind.check_events();
        let event = self.event.as_str();
        if !events.contains(&event) {
            return Err(match events {
                [] => "the kind generic has its checks in its mapping".to_owned(),
                _ => format!("event {event:?} is none of {}", events.join(", ")),
            });
        }
        self.check_effects()?;
        ShortText::parse_identifier(&self.check).map_err(|error| format!("check {error}"))?;
        match &self.environment {
            Some(name) => {
                drop(EnvironmentName::parse(name).map_err(|error| format!("environment: {error}"))?);
            }
            None if RUNS.contains(&event) => {
                return Err("environment is required: a run does not state it".to_owned());
            }
            None => {}
        }
        if let Some(name) = &self.service {
            ServiceName::parse(name).map_err(|error| format!("service: {error}"))?;
        }
        if let Some(name) = &self.target {
            TargetName::parse(name).map_err(|error| format!("target: {error}"))?;
        }
        if self.whole_environment && (self.service.is_some() || self.target.is_some() || self.of_commit) {
            return Err("whole_environment excludes service, target and of_commit".to_owned());
        }
        if self.branches.is_none() && RUNS.contains(&event) && !WITH_TRIGGER.contains(&event) {
            return Err(format!("branches is required: the message of a {event} does not state its trigger"));
        }
        Ok(())
    }

    /// Checks that each setting has an effect on the event.
    fn check_effects(&self) -> Result<(), String> {
        for (name, is_set, events) in [
            ("environment", self.environment.is_some(), WITH_LANE),
            ("service", self.service.is_some(), WITH_LANE),
            ("target", self.target.is_some(), WITH_LANE),
            ("whole_environment", self.whole_environment, WITH_LANE),
            ("branches", self.branches.is_some(), RUNS),
            ("triggers", self.triggers.is_some(), WITH_TRIGGER),
            ("of_commit", self.of_commit, RUNS),
        ] {
            if is_set && !events.contains(&self.event.as_str()) {
                let owners = by_kind(events);
                return Err(format!("{name} has no effect on {}; it belongs to {owners}", self.event));
            }
        }
        Ok(())
    }
}

/// Returns events with the kinds that send them, for people: `github (workflow_run), gitlab (pipeline)`.
fn by_kind(events: &[&str]) -> String {
    let of_kind = |kind: HookKind| {
        let own: Vec<_> =
            kind.check_events().iter().copied().filter(|event| events.contains(event)).collect();
        (!own.is_empty()).then(|| format!("{} ({})", kind.name(), own.join(", ")))
    };
    HookKind::ALL.into_iter().filter_map(of_kind).collect::<Vec<_>>().join(", ")
}
