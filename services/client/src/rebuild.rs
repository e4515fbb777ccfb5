//! `release-ledger env rebuild`: reproduces the state of one environment in another.

use anyhow::bail;
use ledger_api_types::{PlanBody, RollbackBody, RollbacksBody, StateBody};
use ledger_domain::{EnvironmentName, LongText, PointRef, ShortText};
use serde_json::json;

use super::connection::{Client, Connection};
use super::env_list::ListEnvironments;
use super::execution::{ExecutionArgs, execute};
use super::fetch_rollback::find_rollback;
use super::invalid::InvalidArgument;
use super::output::{print_json_or_text, print_text};
use super::plan::{PlanRequest, render};
use super::point_arg;
use super::query::{head, read, with_param};
use super::rollback::{RequestArgs, request_rollback};

/// List and build environments
#[derive(Debug, clap::Subcommand)]
pub enum Environment {
    /// List the environments, with the number of changes of each and the position of its first event
    List(Box<ListEnvironments>),
    /// Bring an environment to the state of another one at a point
    ///
    /// Plans, requests that plan, and executes it as `rollback execute` does, with the same variables for the
    /// command. At the end, both environments must have the same digest. If a step fails, or this command is
    /// interrupted or killed, the same command continues the same rollback: finished steps are not run again.
    Rebuild(Box<Rebuild>),
}

impl Environment {
    /// Runs the command.
    ///
    /// # Errors
    /// The subcommand's errors.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Rebuild(rebuild) => rebuild.run().await,
        }
    }
}

/// The command `env rebuild`.
#[derive(Debug, clap::Args)]
pub struct Rebuild {
    /// The source environment and point: `production@last-known-good`
    #[arg(long, value_name = "ENVIRONMENT@POINT", value_parser = point_arg::parse_reference)]
    from: PointRef,
    /// The environment to build
    #[arg(long, value_name = "ENVIRONMENT")]
    into: EnvironmentName,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    execution: ExecutionArgs,
    /// Print {"environment":…,"digest":…,"source":…,"source_digest":…}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The point that the environment is built from.
struct SourcePoint {
    environment: String,
    position: u64,
}

impl Rebuild {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        let source = self.from.environment.as_ref();
        let missing = || InvalidArgument::new("--from must be ENVIRONMENT@POINT");
        let source = source.ok_or_else(missing)?.to_string();
        let (origin, position) = match self.find_or_request(&client).await? {
            Some(rollback_id) => {
                let execution = self.execution.clone();
                let ended = execute(&client, &rollback_id, execution, self.request.by.executor()?).await?;
                let environment = ended.source.unwrap_or(source);
                (SourcePoint { environment, position: ended.to }, Some(ended.position))
            }
            None => {
                (SourcePoint { environment: source, position: self.plan(&client).await?.to.position }, None)
            }
        };
        let (at, into) = (Some(origin.position.to_string()), self.into.as_str());
        let source_digest = state_digest(&client, &origin.environment, at, None).await?;
        let digest = state_digest(&client, into, None, position).await?;
        let text = if self.json {
            json!({
                "environment": into, "digest": digest, "source": origin.environment,
                "source_position": origin.position, "source_digest": source_digest,
            })
            .to_string()
        } else {
            let SourcePoint { environment, position } = &origin;
            format!("{into} runs {digest}\n{environment} ran {source_digest} at position {position}")
        };
        print_json_or_text(self.json, &text)?;
        if digest != source_digest {
            bail!("{into} does not run what {} ran at position {}", origin.environment, origin.position);
        }
        Ok(())
    }

    /// Returns the rollback that builds the environment, requested now or earlier; none if there is nothing
    /// to do.
    async fn find_or_request(&self, client: &Client) -> anyhow::Result<Option<ShortText>> {
        if let Some(id) = &self.request.id
            && let Some(rollback) = find_rollback(client, id).await?
        {
            if rollback.environment != self.into.as_str() {
                bail!("rollback {id} belongs to {}, not to {}", rollback.environment, self.into);
            }
            return Ok(Some(id.clone()));
        }
        let plan = self.plan(client).await?;
        let reason = match &self.reason {
            Some(reason) => reason.clone(),
            None => LongText::parse(&format!("rebuild of {}", self.from))?,
        };
        if self.request.id.is_none()
            && let Some(rollback) = latest_rollback(client, &self.into).await?
            && self.is_own_request(&rollback, &reason, plan.to.position)
        {
            if !self.json {
                print_text(&format!("continuing rollback {}", rollback.rollback_id))?;
            }
            return Ok(Some(ShortText::parse(&rollback.rollback_id)?));
        }
        if plan.steps.is_empty() {
            return Ok(None);
        }
        let requested = request_rollback(client, &self.plan_request(), &self.request, &reason).await?;
        if !self.json {
            let id = &requested.rollback_id;
            print_text(&format!("rollback {id} is requested\n{}", render(&requested.plan)))?;
        }
        Ok(Some(requested.rollback_id))
    }

    /// Returns true if an earlier run of this command requested the rollback, and it has not ended. The point
    /// may resolve to another position by now, as `last-known-good` does; the rollback keeps the position
    /// that it was planned with.
    fn is_own_request(&self, rollback: &RollbackBody, reason: &LongText, position: u64) -> bool {
        // The default reason names the point.
        let same_point = self.reason.is_none() || rollback.to == position;
        rollback.phase.is_active()
            && rollback.source.as_deref() == self.from.environment.as_ref().map(EnvironmentName::as_str)
            && rollback.reason.as_deref() == Some(reason.as_str())
            && same_point
    }

    async fn plan(&self, client: &Client) -> anyhow::Result<PlanBody> {
        read(&self.plan_request().plan(client, Some(head(client).await?)).await?)
    }

    fn plan_request(&self) -> PlanRequest {
        let (environment, to) = (self.into.clone(), self.from.to_string());
        PlanRequest { environment, to, services: Vec::new(), targets: Vec::new() }
    }
}

/// Returns the latest rollback of an environment; no other one can be active.
async fn latest_rollback(
    client: &Client,
    environment: &EnvironmentName,
) -> anyhow::Result<Option<RollbackBody>> {
    let url = with_param(client.url(&["rollbacks"]), "environment", Some(environment));
    let url = with_param(with_param(url, "limit", Some(1)), "wait_for", Some(head(client).await?));
    Ok(read::<RollbacksBody>(&client.get(url).await?)?.rollbacks.pop())
}

/// Returns the digest of the state of an environment at a point.
async fn state_digest(
    client: &Client,
    environment: &str,
    at: Option<String>,
    wait_for: Option<u64>,
) -> anyhow::Result<String> {
    let url = with_param(client.url(&["environments", environment, "state"]), "at", at);
    let body = client.get(with_param(url, "wait_for", wait_for)).await?;
    read::<StateBody>(&body).map(|state| state.digest)
}
