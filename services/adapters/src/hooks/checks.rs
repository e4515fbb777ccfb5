//! Runs and jobs that have ended: validations where the settings map them to a check, activities everywhere else.
//!
//! A failed check can roll back production. A run therefore counts only if the settings name it, and if it ran for a
//! branch and a reason that they name: the run of a pull request never counts.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::context::Context;
use super::draft::Draft;
use super::release::ReleaseParts;
use super::settings::CheckMapping;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood};

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was cancelled, skipped or timed out: there is no result.
    Inconclusive,
}

/// The reason for which a run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger<'r> {
    /// For this reason, in the sender's own word.
    Named(&'r str),
    /// For a pull request, or by a fork.
    Change,
    /// The message does not state it.
    Unknown,
}

/// A run or job that has ended.
#[derive(Debug, Clone)]
pub(super) struct Run<'r> {
    /// The kind, the name and the id of the run.
    pub identity: RunIdentity<'r>,
    /// The cause and the subject of the run.
    pub origin: RunOrigin<'r>,
    /// The result.
    pub result: RunResult<'r>,
}

/// The kind of a run, its name and its id.
#[derive(Debug, Clone)]
pub(super) struct RunIdentity<'r> {
    /// The event of [`CheckMapping::event`].
    pub event: &'static str,
    /// Activity as which it is recorded.
    pub activity: &'static str,
    /// Name by which it is mapped.
    pub name: &'r str,
    /// Source of the events.
    pub source: String,
    /// Id of this run and this attempt.
    pub id: String,
    /// Subject of the activity, for people.
    pub subject: String,
    /// Its page.
    pub href: Option<&'r str>,
    /// Id that events of the same pipeline share.
    pub correlation: Option<String>,
}

/// The code for which a run was started, and what started it.
#[derive(Debug, Clone)]
pub(super) struct RunOrigin<'r> {
    /// The reason for which it was started.
    pub trigger: Trigger<'r>,
    /// Triggers that count without a setting.
    pub default_triggers: &'static [&'static str],
    /// The branch or tag.
    pub branch: Option<&'r str>,
    /// The default branch.
    pub default_branch: Option<&'r str>,
    /// Foreign name of the service: that of the repository.
    pub repository: &'r str,
    /// Place of that name in the message.
    pub repository_place: &'static str,
    /// The commit.
    pub commit: Option<&'r str>,
    /// The actor that started it: the type and the name.
    pub actor: Option<(&'r str, &'r str)>,
}

/// The result of a run, and its time.
#[derive(Debug, Clone)]
pub(super) struct RunResult<'r> {
    /// The result.
    pub verdict: Verdict,
    /// The result, in the sender's own word.
    pub outcome: &'r str,
    /// Start, if it is known.
    pub started_at: Option<DateTime<Utc>>,
    /// End.
    pub ended_at: DateTime<Utc>,
}

impl Run<'_> {
    /// Returns the events of the run: those of the first check of the settings that it counts for, else an activity.
    pub(super) fn events(&self, context: Context<'_>) -> Result<Vec<NativeEvent>, NotUnderstood> {
        let mut obstacle = None;
        for check in context.webhook.checks(self.identity.event, self.identity.name) {
            match self.obstacle(check) {
                None => return self.validation(context, check),
                Some(found) => obstacle = obstacle.or(Some(found)),
            }
        }
        Ok(vec![self.activity(obstacle.as_deref())])
    }

    /// Returns the reason for which the run does not count for a check, if there is one.
    fn obstacle(&self, check: &CheckMapping) -> Option<String> {
        let because = |why: String| Some(format!("Does not count for the check {:?}: {why}.", check.check));
        if self.result.verdict == Verdict::Inconclusive {
            return because(format!("it ended with {:?}", self.result.outcome));
        }
        let trigger = match self.origin.trigger {
            Trigger::Change => return because("it ran for a change that is not merged".to_owned()),
            Trigger::Unknown if check.triggers.is_some() => {
                return because("its trigger is unknown".to_owned());
            }
            Trigger::Unknown => None,
            Trigger::Named(trigger) => Some(trigger),
        };
        if let Some(trigger) = trigger {
            let is_accepted = match &check.triggers {
                Some(triggers) => triggers.iter().any(|accepted| accepted == trigger),
                None => self.origin.default_triggers.contains(&trigger),
            };
            if !is_accepted {
                return because(format!("its trigger is {trigger:?}"));
            }
        }
        let is_accepted = match (&check.branches, self.origin.branch) {
            (Some(patterns), Some(branch)) => patterns.iter().any(|pattern| text::matches(pattern, branch)),
            // A push to the default branch checks a commit that is not deployed yet, so it has to be named.
            (None, Some(_)) if trigger.is_none() => {
                return because("its trigger is unknown; set branches".to_owned());
            }
            (None, Some(branch)) => self.origin.default_branch == Some(branch),
            (Some(patterns), None) => patterns.iter().any(|pattern| pattern == "*"),
            (None, None) => false,
        };
        if is_accepted {
            return None;
        }
        because(format!("it ran for the branch {:?}", self.origin.branch.unwrap_or_default()))
    }

    fn full_commit(&self) -> Option<&str> {
        self.origin.commit.filter(|commit| text::is_full_commit(commit))
    }

    fn activity(&self, reason: Option<&str>) -> NativeEvent {
        Draft::new(
            "activity.reported",
            &self.identity.source,
            &format!("{}/activity", self.identity.id),
            self.result.ended_at,
        )
        .with("activity", self.identity.activity)
        .with_line("subject", Some(&self.identity.subject))
        .with_optional("commit", self.full_commit())
        .with_line("outcome", Some(self.result.outcome))
        .with_actor(self.origin.actor)
        .with_reason(reason)
        .with_link("pipeline", self.identity.href)
        .with_correlation(self.identity.correlation.as_deref())
        .build()
    }

    /// Returns the start and the end of the validation. The start makes the ledger leave out a check during which what it
    /// checked was changed.
    fn validation(
        &self,
        context: Context<'_>,
        check: &CheckMapping,
    ) -> Result<Vec<NativeEvent>, NotUnderstood> {
        let service = match (&check.service, check.whole_environment) {
            (_, true) => None,
            (Some(service), false) => Some(service.clone()),
            (None, false) => {
                let service = context.webhook.names.service(Some(self.origin.repository));
                Some(
                    service
                        .map_err(|error| NotUnderstood::new(self.origin.repository_place, error.to_string()))?
                        .to_string(),
                )
            }
        };
        let release = match self.full_commit() {
            Some(commit) if check.of_commit => {
                let commit = commit.to_owned();
                Some(ReleaseParts {
                    version: commit.clone(),
                    commit: Some(commit),
                    ..ReleaseParts::default()
                })
            }
            _ => None,
        };
        let target = check.target.clone().filter(|_| service.is_some());
        let event = |kind: &str, id: &str, at| {
            Draft::new(kind, &self.identity.source, &format!("{}/{id}", self.identity.id), at)
                .with_optional("environment", check.environment.as_deref())
                .with_optional("service", service.as_deref())
                .with_optional("target", target.as_deref())
                .with_optional("release", release.as_ref().map(ReleaseParts::value))
                .with("check", check.check.as_str())
                .with("run", text::id(&self.identity.id))
                .with_actor(self.origin.actor)
                .with_link("pipeline", self.identity.href)
                .with_correlation(self.identity.correlation.as_deref())
        };
        let (kind, id) = match self.result.verdict {
            Verdict::Passed => ("validation.passed", "passed"),
            Verdict::Failed | Verdict::Inconclusive => ("validation.failed", "failed"),
        };
        let start = self.result.started_at.filter(|start| *start <= self.result.ended_at);
        let started = start.map(|start| event("validation.started", "started", start).build());
        let mut ended = event(kind, id, self.result.ended_at);
        if let Some(href) = self.identity.href.and_then(text::href) {
            ended = ended.with("evidence", json!([{"uri": href}]));
        }
        Ok(started.into_iter().chain([ended.build()]).collect())
    }
}
