//! What carries out the steps, and tells the ledger of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Action, Actor, Deploy, Ending, Payload, Rollback, RollbackStart, Step};
use ledger_domain::rollback::Phase;
use ledger_domain::{LaneRef, LongText, ServiceName, TargetName};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::command::{Ended, StepEnv, run};
use super::memory::StepLog;
use super::{Execution, OnFailure};
use crate::clock;
use crate::connection::{Client, Error};
use crate::plan::StepBody;
use crate::progress::Progress;
use crate::query::head;
use crate::report::{composed, identified, record};
use crate::rollback::{RollbackBody, StepStateBody, fetch_patiently};

/// The source of the reports of steps.
const SOURCE: &str = "urn:release-ledger:rollback-executor";

/// One execution of one rollback.
pub(super) struct Executor {
    pub(super) client: Client,
    pub(super) rollback: Rollback,
    pub(super) actor: Actor,
    pub(super) retry_for: Duration,
    pub(super) execution: Execution,
    pub(super) memory: StepLog,
    pub(super) progress: Arc<Progress>,
    pub(super) interrupted: CancellationToken,
}

/// How a step came out.
enum Outcome {
    /// Its last report has this position.
    Done(u64),
    Failed(String),
}

impl Executor {
    /// Says that the rollback is started; answers where that is recorded.
    pub(super) async fn start(&self) -> anyhow::Result<u64> {
        let acknowledge = self.acknowledged().await?;
        let start = RollbackStart { rollback: self.rollback.clone(), acknowledge };
        let event = composed(Payload::RollbackStarted(start), &self.actor, None)?;
        self.recorded(&event).await.map_err(|error| {
            let refused = error.downcast_ref::<Error>();
            match refused.and_then(|error| error.problem("rollback-start-blocked")) {
                Some(_) => error.context(
                    "not started; where a lane has changed and is to be brought back all the same, say \
                     --acknowledge SERVICE@TARGET",
                ),
                None => error,
            }
        })
    }

    /// The lanes of the plan that are acknowledged to have changed.
    async fn acknowledged(&self) -> anyhow::Result<BTreeSet<(ServiceName, TargetName)>> {
        let mut lanes = BTreeSet::new();
        if self.execution.acknowledge.is_empty() {
            return Ok(lanes);
        }
        let rollback = self.look(0).await?;
        let steps: Vec<Step> =
            rollback.steps.iter().map(|part| part.step.step()).collect::<Result<_, _>>()?;
        for named in &self.execution.acknowledge {
            let is_it = |step: &&Step| {
                step.service == named.service
                    && named.target.as_ref().is_none_or(|target| *target == step.target)
            };
            let found: Vec<_> =
                steps.iter().filter(is_it).map(|step| (step.service.clone(), step.target.clone())).collect();
            if found.is_empty() {
                let lanes: Vec<_> =
                    steps.iter().map(|step| format!("{}@{}", step.service, step.target)).collect();
                let named = match &named.target {
                    Some(target) => format!("{}@{target}", named.service),
                    None => named.service.to_string(),
                };
                bail!("--acknowledge {named}: the plan has no such lane; it has {}", lanes.join(", "));
            }
            lanes.extend(found);
        }
        Ok(lanes)
    }

    /// Carries out what is to be done, wave by wave; answers which steps failed.
    pub(super) async fn all_waves(self: &Arc<Self>, mut position: u64) -> anyhow::Result<Vec<String>> {
        let mut settled = BTreeSet::new();
        let mut failed = Vec::new();
        loop {
            let rollback = self.look(position).await?;
            if rollback.phase != Phase::Started {
                bail!("{}", rollback.ending());
            }
            let open = |part: &&StepStateBody| part.state != "done" && !settled.contains(&part.step.lane());
            let open: Vec<_> = rollback.steps.iter().filter(open).map(|part| part.step.clone()).collect();
            // Others may end the rollback, so it is looked at again before each wave.
            let Some(wave) = open.iter().map(|step| step.wave).min() else { return Ok(failed) };
            self.progress.at(rollback.progress.done, &format!("wave {wave}"));
            let steps: Vec<_> = open.into_iter().filter(|step| step.wave == wave).collect();
            settled.extend(steps.iter().map(StepBody::lane));
            let (last, failures) = self.wave(steps).await?;
            position = position.max(last.unwrap_or_default());
            failed.extend(failures);
            if !failed.is_empty() && self.execution.on_failure == OnFailure::Stop {
                let id = self.rollback.rollback_id.as_str();
                bail!(
                    "{}; the same command goes on from there, `release-ledger rollback fail {id}` ends the rollback",
                    failed.join("; ")
                );
            }
        }
    }

    /// Carries out the steps of a wave; answers the position of the last report, and what failed.
    async fn wave(self: &Arc<Self>, steps: Vec<StepBody>) -> anyhow::Result<(Option<u64>, Vec<String>)> {
        let mut waiting = steps.into_iter();
        let mut running = JoinSet::new();
        let (mut last, mut failed, mut fault) = (None, Vec::new(), None);
        let mut stopped = false;
        loop {
            while !stopped && running.len() < usize::from(self.execution.parallel) {
                let Some(step) = waiting.next() else { break };
                running.spawn(Arc::clone(self).step(step));
            }
            let Some(joined) = running.join_next().await else { break };
            match joined.context("a step broke off").flatten() {
                Ok(Outcome::Done(position)) => last = last.max(Some(position)),
                Ok(Outcome::Failed(what)) => {
                    stopped |= self.execution.on_failure == OnFailure::Stop;
                    failed.push(what);
                }
                Err(error) => {
                    stopped = true;
                    fault.get_or_insert(error);
                }
            }
        }
        match fault {
            Some(fault) => Err(fault),
            None => Ok((last, failed)),
        }
    }

    /// Carries out a step, unless that is done, and reports it.
    async fn step(self: Arc<Self>, body: StepBody) -> anyhow::Result<Outcome> {
        let (step, lane) = (body.step()?, body.lane());
        let about = format!("wave {}  {lane}  {}", body.wave, body.change());
        let now = || body.occurs_at(clock::now());
        if self.memory.finished(&lane, now())?.is_some() {
            self.progress.line(&format!("{about}: was done before, and is reported now"));
        } else if let Some(why) = self.run(&step, &body, &about).await? {
            self.progress.line(&format!("{about}: failed: {why}"));
            return Ok(Outcome::Failed(format!("{lane}: {why}")));
        }
        let finished = self.memory.finish(&lane, now())?;
        let mut last = 0;
        let reports = step.reports(&self.rollback.environment, None, Some(&self.rollback.rollback_id));
        for (number, payload) in (1..).zip(reports) {
            let id = self.id(&step, number);
            // The same bytes whenever it is reported: told twice, it is recorded once.
            last = self.recorded(&identified(SOURCE, &id, finished, payload, &self.actor, None)?).await?;
        }
        self.progress.advance();
        self.progress.line(&format!("{about}: done (position {last})"));
        Ok(Outcome::Done(last))
    }

    /// Runs a step's command; answers why it failed, if it did.
    async fn run(&self, step: &Step, body: &StepBody, about: &str) -> anyhow::Result<Option<String>> {
        // Somebody may have ended the rollback since the wave began.
        let rollback = self.look(0).await?;
        if rollback.phase != Phase::Started {
            bail!("{}", rollback.ending());
        }
        // The start claims the step: the ledger rejects it where the step must not be carried out any more.
        if matches!(step.action, Action::Redeploy | Action::Add | Action::Switch)
            && let Some(deploy) = self.deploy(step)
        {
            self.recorded(&composed(Payload::DeployStarted(deploy), &self.actor, None)?).await?;
        }
        self.progress.line(&format!("{about}: started"));
        let told = StepEnv {
            rollback_id: self.rollback.rollback_id.as_str(),
            environment: self.rollback.environment.as_str(),
            step: body,
        };
        let mark = self.memory.mark(&body.lane());
        match run(&self.execution.exec, &told, &mark, &self.progress, &self.interrupted).await? {
            Ended::Well => Ok(None),
            Ended::Interrupted => bail!("interrupted; the same command goes on from there"),
            Ended::Failed(why) => {
                if let Some(deploy) = self.deploy(step) {
                    let event = composed(Payload::DeployFailed(deploy), &self.actor, Some(prose(&why)?))?;
                    self.recorded(&event).await?;
                }
                Ok(Some(why))
            }
        }
    }

    /// The step as a deploy: of what it brings, or of what it takes away.
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

    /// The id of one of the reports that a step is done: made from what it is about, so that whoever tells
    /// it a second time tells the same.
    fn id(&self, step: &Step, number: u32) -> String {
        let Rollback { environment, rollback_id } = &self.rollback;
        let text = format!("{rollback_id}\n{environment}\n{}\n{}\n{number}", step.service, step.target);
        Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Says how the rollback ended; answers it as it is then.
    pub(super) async fn conclude(&self, failed: Vec<String>) -> anyhow::Result<RollbackBody> {
        if !failed.is_empty() {
            return self.fail(&failed.join("; ")).await;
        }
        let event = composed(Payload::RollbackSucceeded(self.rollback.clone()), &self.actor, None)?;
        match self.recorded(&event).await {
            Ok(position) => self.look(position).await,
            Err(refused) => {
                let differs = refused
                    .downcast_ref::<Error>()
                    .and_then(|error| error.problem("invalid-rollback-transition"));
                let Some(detail) = differs.map(|problem| problem.detail().to_owned()) else {
                    return Err(refused);
                };
                // Somebody else may have ended it first.
                let rollback = self.look(head(&self.client).await?).await?;
                if rollback.phase.is_active() { self.fail(&detail).await } else { Ok(rollback) }
            }
        }
    }

    async fn fail(&self, why: &str) -> anyhow::Result<RollbackBody> {
        let payload = Payload::RollbackFailed(self.rollback.clone());
        let position = self.recorded(&composed(payload, &self.actor, Some(prose(why)?))?).await?;
        self.look(position).await
    }

    /// The rollback as it is at a position or later.
    async fn look(&self, position: u64) -> anyhow::Result<RollbackBody> {
        let id = &self.rollback.rollback_id;
        tokio::select! {
            rollback = fetch_patiently(&self.client, id, position, self.retry_for) => rollback,
            () = self.interrupted.cancelled() => Err(interrupted()),
        }
    }

    /// Records an event; answers its position. If the ledger has another event of this identity, that one
    /// told the same: of what we report, no two events have the same identity and say different things.
    async fn recorded(&self, event: &Envelope) -> anyhow::Result<u64> {
        let result = tokio::select! {
            result = record(&self.client, event, self.retry_for) => result,
            () = self.interrupted.cancelled() => return Err(interrupted()),
        };
        match result {
            Ok(result) => result.position.with_context(|| format!("no position: {result}")),
            Err(error) if error.problem("identity-conflict").is_some() => head(&self.client).await,
            Err(error) => Err(error.into()),
        }
    }
}

fn interrupted() -> anyhow::Error {
    anyhow!("interrupted; the same command goes on from there")
}

/// As much of a text as fits into a reason.
fn prose(text: &str) -> anyhow::Result<LongText> {
    Ok(LongText::parse(text[..text.floor_char_boundary(LongText::LIMIT)].trim_end())?)
}
