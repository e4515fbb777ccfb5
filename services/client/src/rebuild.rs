//! `release-ledger env rebuild`: an environment, made again somewhere else.

use anyhow::{Context as _, bail};
use ledger_domain::{EnvironmentName, LongText, PointRef, ShortText};
use serde::Deserialize;
use serde_json::json;

use super::connection::{Client, Connection};
use super::execution::{Execution, execute};
use super::output::{show_either, show_text};
use super::plan::{PlanBody, Wish, render};
use super::query::{head, read, with};
use super::rollback::{Request, RollbackBody, find, requested};

/// Make environments
#[derive(Debug, clap::Subcommand)]
pub enum Environment {
    /// Make an environment run what another one ran at a point
    ///
    /// Plans, asks for this plan, and carries it out as `rollback execute` does: see there for the
    /// variables that the command gets. At the end, the digest of what the environment runs must be that of the other one. If a step fails, or
    /// this is interrupted or killed, the same command continues the same rollback: steps that are done are not run
    /// again.
    Rebuild(Box<Rebuild>),
}

impl Environment {
    /// Runs the command.
    ///
    /// # Errors
    /// As the subcommand's.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Rebuild(rebuild) => rebuild.run().await,
        }
    }
}

/// The command `env rebuild`.
#[derive(Debug, clap::Args)]
pub struct Rebuild {
    /// The environment and its point: `production@last-known-good`
    #[arg(long, value_name = "ENVIRONMENT@POINT", value_parser = PointRef::parse)]
    from: PointRef,
    /// The environment that is made
    #[arg(long, value_name = "ENVIRONMENT")]
    into: EnvironmentName,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    execution: Execution,
    /// Print {"environment":…,"digest":…,"source":…,"source_digest":…}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What ran somewhere.
#[derive(Debug, Deserialize)]
struct Ran {
    digest: String,
}

#[derive(Debug, Deserialize)]
struct RollbacksBody {
    rollbacks: Vec<RollbackBody>,
}

/// Which point of which environment it is made from.
struct Origin {
    environment: String,
    position: u64,
}

impl Rebuild {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client();
        let source = self.from.environment.as_ref().context("--from must be ENVIRONMENT@POINT")?.to_string();
        let (origin, position) = match self.asked(&client).await? {
            Some(rollback_id) => {
                let execution = self.execution.clone();
                let ended = execute(&client, &rollback_id, execution, self.request.by.executor()?).await?;
                let environment = ended.source.unwrap_or(source);
                (Origin { environment, position: ended.to }, Some(ended.position))
            }
            None => {
                (Origin { environment: source, position: self.planned(&client).await?.to.position }, None)
            }
        };
        let (at, into) = (Some(origin.position.to_string()), self.into.as_str());
        let there = ran(&client, &origin.environment, at, None).await?;
        let here = ran(&client, into, None, position).await?;
        let text = if self.json {
            json!({
                "environment": into, "digest": here, "source": origin.environment,
                "source_position": origin.position, "source_digest": there,
            })
            .to_string()
        } else {
            let Origin { environment, position } = &origin;
            format!("{into} runs {here}\n{environment} ran {there} at position {position}")
        };
        show_either(self.json, &text)?;
        if here != there {
            bail!("{into} does not run what {} ran at position {}", origin.environment, origin.position);
        }
        Ok(())
    }

    /// The rollback that makes it, asked for now or before; none if nothing is to be done.
    async fn asked(&self, client: &Client) -> anyhow::Result<Option<ShortText>> {
        if let Some(id) = &self.request.id
            && let Some(rollback) = find(client, id).await?
        {
            if rollback.environment != self.into.as_str() {
                bail!("rollback {id} is one of {}, and not of {}", rollback.environment, self.into);
            }
            return Ok(Some(id.clone()));
        }
        let plan = self.planned(client).await?;
        let reason = match &self.reason {
            Some(reason) => reason.clone(),
            None => LongText::parse(&format!("rebuild of {}", self.from))?,
        };
        if self.request.id.is_none()
            && let Some(rollback) = last_requested(client, &self.into).await?
            && self.is_of(&rollback, &reason, plan.to.position)
        {
            if !self.json {
                show_text(&format!("continuing rollback {}", rollback.rollback_id))?;
            }
            return Ok(Some(ShortText::parse(&rollback.rollback_id)?));
        }
        if plan.steps.is_empty() {
            return Ok(None);
        }
        let asked = requested(client, &self.wish(), &self.request, &reason).await?;
        if !self.json {
            let id = &asked.rollback_id;
            show_text(&format!("rollback {id} is requested\n{}", render(&asked.plan)))?;
        }
        Ok(Some(asked.rollback_id))
    }

    /// Returns true if an earlier run of this command asked for the rollback, and it has not ended. The point may name
    /// another position by now, as `last-known-good` does: the rollback keeps the one that it was planned with.
    fn is_of(&self, rollback: &RollbackBody, reason: &LongText, position: u64) -> bool {
        // The reason that is given by default names the point.
        let same_point = self.reason.is_none() || rollback.to == position;
        rollback.phase.is_active()
            && rollback.source.as_deref() == self.from.environment.as_ref().map(EnvironmentName::as_str)
            && rollback.reason.as_deref() == Some(reason.as_str())
            && same_point
    }

    async fn planned(&self, client: &Client) -> anyhow::Result<PlanBody> {
        read(&self.wish().planned(client, Some(head(client).await?)).await?)
    }

    fn wish(&self) -> Wish {
        let (environment, to) = (self.into.clone(), self.from.to_string());
        Wish { environment, to, services: Vec::new(), targets: Vec::new() }
    }
}

/// The rollback of an environment that was requested last: no other one can be active.
async fn last_requested(
    client: &Client,
    environment: &EnvironmentName,
) -> anyhow::Result<Option<RollbackBody>> {
    let url = with(client.url(&["rollbacks"]), "environment", Some(environment));
    let url = with(with(url, "limit", Some(1)), "wait_for", Some(head(client).await?));
    Ok(read::<RollbacksBody>(&client.get(url).await?)?.rollbacks.pop())
}

/// The digest of what an environment ran at a point.
async fn ran(
    client: &Client,
    environment: &str,
    at: Option<String>,
    wait_for: Option<u64>,
) -> anyhow::Result<String> {
    let url = with(client.url(&["environments", environment, "state"]), "at", at);
    let body = client.get(with(url, "wait_for", wait_for)).await?;
    read::<Ran>(&body).map(|ran| ran.digest)
}
