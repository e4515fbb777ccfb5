//! Runs the steps of a rollback and reports each to the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use ledger_api_types::{RollbackBody, StepBody, StepStateBody};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Action, Actor, Deploy, Ending, Payload, Rollback, RollbackStart, Step};
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{LaneRef, LongText, ServiceName, TargetName};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::command::{CommandOutcome, StepEnv, run};
use super::step_log::StepLog;
use super::{ExecutionArgs, OnFailure};
use crate::clock;
use crate::connection::{Client, Error};
use crate::event_result::describe;
use crate::fetch_rollback::{describe_end, fetch_rollback_with_retry};
use crate::plan::{change, lane, occurs_at, parse_step};
use crate::progress::Progress;
use crate::query::head;
use crate::record::{compose, compose_with_identity, record_with_retry};

/// The source of the reports of steps.
const SOURCE: &str = "urn:release-ledger:rollback-executor";

/// One execution of one rollback.
pub(super) struct Executor {
    pub(super) client: Client,
    pub(super) rollback: Rollback,
    pub(super) actor: Actor,
    pub(super) retry_for: Duration,
    pub(super) args: ExecutionArgs,
    pub(super) step_log: StepLog,
    pub(super) progress: Arc<Progress>,
    pub(super) interrupted: CancellationToken,
}

/// The outcome of a step.
enum Outcome {
    /// The step is done; its last report has this position.
    Done(u64),
    Failed(String),
}

impl Executor {
    /// Records the start of the rollback; returns its position.
    pub(super) async fn start(&self) -> anyhow::Result<u64> {
        let acknowledge = self.acknowledged_lanes().await?;
        let start = RollbackStart { rollback: self.rollback.clone(), acknowledge };
        let event = compose(Payload::RollbackStarted(start), &self.actor, None)?;
        self.record(&event).await.map_err(|error| {
            let rejection = error.downcast_ref::<Error>();
            match rejection.and_then(|error| error.problem("rollback-start-blocked")) {
                Some(_) => error.context(
                    "not started; to roll back a lane although it has changed, add \
                     --acknowledge SERVICE@TARGET",
                ),
                None => error,
            }
        })
    }

    /// Resolves the `--acknowledge` flags to lanes of the plan.
    async fn acknowledged_lanes(&self) -> anyhow::Result<BTreeSet<(ServiceName, TargetName)>> {
        let mut lanes = BTreeSet::new();
        if self.args.acknowledge.is_empty() {
            return Ok(lanes);
        }
        let rollback = self.fetch_state(0).await?;
        let steps: Vec<Step> =
            rollback.steps.iter().flatten().map(|part| parse_step(&part.step)).collect::<Result<_, _>>()?;
        for selector in &self.args.acknowledge {
            let is_selected = |step: &&Step| {
                step.service == selector.service
                    && selector.target.as_ref().is_none_or(|target| *target == step.target)
            };
            let found: Vec<_> = steps
                .iter()
                .filter(is_selected)
                .map(|step| (step.service.clone(), step.target.clone()))
                .collect();
            if found.is_empty() {
                let lanes: Vec<_> =
                    steps.iter().map(|step| format!("{}@{}", step.service, step.target)).collect();
                let selector = match &selector.target {
                    Some(target) => format!("{}@{target}", selector.service),
                    None => selector.service.to_string(),
                };
                bail!(
                    "--acknowledge {selector}: the plan has no such lane; its lanes are {}",
                    lanes.join(", ")
                );
            }
            lanes.extend(found);
        }
        Ok(lanes)
    }

    /// Runs the remaining steps, wave by wave; returns the failures.
    pub(super) async fn run_waves(self: &Arc<Self>, mut position: u64) -> anyhow::Result<Vec<String>> {
        let mut attempted = BTreeSet::new();
        let mut failures = Vec::new();
        loop {
            let rollback = self.fetch_state(position).await?;
            if rollback.phase != RollbackPhase::Started {
                bail!("{}", describe_end(&rollback));
            }
            let mut open = open_steps(&rollback)?;
            open.retain(|part| !attempted.contains(&lane(&part.step)));
            // Fetch the rollback again before each wave: another process may have ended it.
            let Some(wave) = open.iter().map(|part| part.step.wave).min() else { return Ok(failures) };
            self.progress.set_position(rollback.progress.done as u64, &format!("wave {wave}"));
            let steps: Vec<_> = open.into_iter().filter(|part| part.step.wave == wave).collect();
            attempted.extend(steps.iter().map(|part| lane(&part.step)));
            let (last, failed) = self.run_wave(steps).await?;
            position = position.max(last.unwrap_or_default());
            failures.extend(failed);
            if !failures.is_empty() && self.args.on_failure == OnFailure::Stop {
                let id = self.rollback.rollback_id.as_str();
                bail!(
                    "{}; run the same command to continue, or `release-ledger rollback fail {id}` to end the \
                     rollback",
                    failures.join("; ")
                );
            }
        }
    }

    /// Runs the steps of a wave; returns the position of the last report, and the failures.
    async fn run_wave(
        self: &Arc<Self>,
        steps: Vec<StepStateBody>,
    ) -> anyhow::Result<(Option<u64>, Vec<String>)> {
        let mut waiting = steps.into_iter();
        let mut running = JoinSet::new();
        let (mut last, mut failures, mut first_error) = (None, Vec::new(), None);
        let mut stopped = false;
        loop {
            while !stopped && running.len() < usize::from(self.args.parallel) {
                let Some(step) = waiting.next() else { break };
                running.spawn(Arc::clone(self).run_step(step));
            }
            let Some(joined) = running.join_next().await else { break };
            match joined.context("a step panicked").flatten() {
                Ok(Outcome::Done(position)) => last = last.max(Some(position)),
                Ok(Outcome::Failed(failure)) => {
                    stopped |= self.args.on_failure == OnFailure::Stop;
                    failures.push(failure);
                }
                Err(error) => {
                    stopped = true;
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok((last, failures)),
        }
    }

    /// Runs a step unless its command has already succeeded, and reports it.
    async fn run_step(self: Arc<Self>, part: StepStateBody) -> anyhow::Result<Outcome> {
        let StepStateBody { step: body, not_before, .. } = part;
        let (step, lane) = (parse_step(&body)?, lane(&body));
        let label = format!("wave {}  {lane}  {}", body.wave, change(&body));
        let now = || occurs_at(not_before, clock::now());
        if self.step_log.finished_at(&lane, now())?.is_some() {
            self.progress.line(&format!("{label}: was done before; reporting it now"));
        } else if let Some(failure) = self.run_command(&step, &body, &label).await? {
            self.progress.line(&format!("{label}: failed: {failure}"));
            return Ok(Outcome::Failed(format!("{lane}: {failure}")));
        }
        let finished_at = self.step_log.mark_finished(&lane, now())?;
        let mut last = 0;
        let reports = step.reports(&self.rollback.environment, None, Some(&self.rollback.rollback_id));
        for (number, payload) in (1..).zip(reports) {
            let id = self.report_id(&step, number);
            // The bytes are always the same, so that the event is recorded once even if sent twice.
            let event = compose_with_identity(SOURCE, &id, finished_at, payload, &self.actor, None)?;
            last = self.record(&event).await?;
        }
        self.progress.advance();
        self.progress.line(&format!("{label}: done (position {last})"));
        Ok(Outcome::Done(last))
    }

    /// Runs the command of a step; returns the failure if it fails.
    async fn run_command(&self, step: &Step, body: &StepBody, label: &str) -> anyhow::Result<Option<String>> {
        // Another process may have ended the rollback since the wave started.
        let rollback = self.fetch_state(0).await?;
        if rollback.phase != RollbackPhase::Started {
            bail!("{}", describe_end(&rollback));
        }
        // The start claims the step: the ledger rejects it if the step must no longer be run.
        if matches!(step.action, Action::Redeploy | Action::Add | Action::Switch)
            && let Some(deploy) = self.deploy(step)
        {
            self.record(&compose(Payload::DeployStarted(deploy), &self.actor, None)?).await?;
        }
        self.progress.line(&format!("{label}: started"));
        let step_env = StepEnv {
            rollback_id: self.rollback.rollback_id.as_str(),
            environment: self.rollback.environment.as_str(),
            step: body,
        };
        let finished_file = self.step_log.finished_file(&lane(body));
        match run(&self.args.exec, &step_env, &finished_file, &self.progress, &self.interrupted).await? {
            CommandOutcome::Succeeded => Ok(None),
            CommandOutcome::Interrupted => Err(interrupted()),
            CommandOutcome::Failed(failure) => {
                if let Some(deploy) = self.deploy(step) {
                    let reason = Some(truncate_reason(&failure)?);
                    let event = compose(Payload::DeployFailed(deploy), &self.actor, reason)?;
                    self.record(&event).await?;
                }
                Ok(Some(failure))
            }
        }
    }

    /// Returns the step as a deploy: of the release that it brings, or of the one that it removes.
    fn deploy(&self, step: &Step) -> Option<Deploy> {
        let lane = LaneRef {
            environment: self.rollback.environment.clone(),
            service: step.service.clone(),
            target: Some(step.target.clone()),
        };
        Some(Deploy {
            lane,
            slot: step.slot.clone(),
            deployment: None,
            release: step.to.clone().or_else(|| step.from.clone())?,
            reversible: true,
            rollback_id: Some(self.rollback.rollback_id.clone()),
            ending: Ending::default(),
        })
    }

    /// Returns the id of a report of a finished step, derived from its content so that a repeated report is
    /// the same event.
    fn report_id(&self, step: &Step, number: u32) -> String {
        let Rollback { environment, rollback_id } = &self.rollback;
        let text = format!("{rollback_id}\n{environment}\n{}\n{}\n{number}", step.service, step.target);
        hex::encode(&Sha256::digest(text)[..16])
    }

    /// Records the end of the rollback; returns its final state.
    pub(super) async fn finish(&self, failures: Vec<String>) -> anyhow::Result<RollbackBody> {
        if !failures.is_empty() {
            return self.fail(&failures.join("; ")).await;
        }
        let event = compose(Payload::RollbackSucceeded(self.rollback.clone()), &self.actor, None)?;
        match self.record(&event).await {
            Ok(position) => self.fetch_state(position).await,
            Err(error) => {
                let problem = error
                    .downcast_ref::<Error>()
                    .and_then(|error| error.problem("invalid-rollback-transition"));
                let Some(detail) = problem.map(|problem| problem.detail.clone()) else {
                    return Err(error);
                };
                // Another process may have ended the rollback first.
                let rollback = self.fetch_state(head(&self.client).await?).await?;
                if rollback.phase.is_active() { self.fail(&detail).await } else { Ok(rollback) }
            }
        }
    }

    async fn fail(&self, reason: &str) -> anyhow::Result<RollbackBody> {
        let payload = Payload::RollbackFailed(self.rollback.clone());
        let position = self.record(&compose(payload, &self.actor, Some(truncate_reason(reason)?))?).await?;
        self.fetch_state(position).await
    }

    /// Fetches the rollback, as of a position or later.
    async fn fetch_state(&self, position: u64) -> anyhow::Result<RollbackBody> {
        let id = &self.rollback.rollback_id;
        tokio::select! {
            rollback = fetch_rollback_with_retry(&self.client, id, position, self.retry_for) => rollback,
            () = self.interrupted.cancelled() => Err(interrupted()),
        }
    }

    /// Records an event and returns its position. An event of the same identity that is already recorded is
    /// the same report: the executor never uses an identity for different content.
    async fn record(&self, event: &Envelope) -> anyhow::Result<u64> {
        let result = tokio::select! {
            result = record_with_retry(&self.client, event, self.retry_for) => result,
            () = self.interrupted.cancelled() => return Err(interrupted()),
        };
        match result {
            Ok(result) => {
                result.position.with_context(|| format!("the event has no position: {}", describe(&result)))
            }
            Err(error) if error.problem("identity-conflict").is_some() => head(&self.client).await,
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the steps that are not done.
///
/// # Errors
/// A step has an unknown state, or the response has no steps: running them could repeat one, and not running
/// them could omit one.
fn open_steps(rollback: &RollbackBody) -> anyhow::Result<Vec<StepStateBody>> {
    let steps = rollback.steps.as_ref().context("the service's response has no steps of the rollback")?;
    let mut open = Vec::new();
    for part in steps {
        match part.state.as_str() {
            "done" => {}
            "pending" | "running" | "failed" => open.push(part.clone()),
            state => bail!(
                "unknown state {state:?} of the step of {}: it may be done already; use a client of the \
                 service's version",
                lane(&part.step)
            ),
        }
    }
    Ok(open)
}

fn interrupted() -> anyhow::Error {
    anyhow!("interrupted; run the same command to continue")
}

/// Truncates a text to the length of a reason.
fn truncate_reason(text: &str) -> anyhow::Result<LongText> {
    Ok(LongText::parse(text[..text.floor_char_boundary(LongText::LIMIT)].trim_end())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    fn open_lanes(steps: &str) -> Result<Vec<String>, String> {
        let json = format!(
            r#"{{"rollback_id":"r-1","environment":"dev","position":9,"phase":"started",
                "initiated_by":{{"type":"person","name":"ada"}},
                "requested":{{"position":9,"recorded_at":"2026-08-01T10:00:00Z"}},"to":1,"plan_digest":"sha256:aa",
                "approvals":{{"wanted":0,"granted":0}},"progress":{{"done":0,"failed":0,"total":1}}{steps}}}"#
        );
        let open = open_steps(&read(json.as_bytes()).expect("a rollback"));
        let open = open.map_err(|error| error.to_string())?;
        Ok(open.iter().map(|part| lane(&part.step)).collect())
    }

    fn step(service: &str, state: &str) -> String {
        format!(r#"{{"wave":1,"service":"{service}","target":"eu","action":"redeploy","state":"{state}"}}"#)
    }

    #[test]
    fn every_step_that_is_not_done_is_open() {
        let steps = [step("a", "pending"), step("b", "done"), step("c", "running"), step("d", "failed")];
        let lanes = open_lanes(&format!(r#","steps":[{}]"#, steps.join(",")));
        assert_eq!(lanes, Ok(["a@eu", "c@eu", "d@eu"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn an_unknown_state_and_absent_steps_stop_the_execution() {
        let steps = [step("a", "pending"), step("b", "skipped")].join(",");
        let error = open_lanes(&format!(r#","steps":[{steps}]"#)).expect_err("an unknown state");
        assert!(error.starts_with(r#"unknown state "skipped" of the step of b@eu"#), "{error}");
        assert!(open_lanes("").expect_err("no steps").contains("has no steps"));
    }
}
