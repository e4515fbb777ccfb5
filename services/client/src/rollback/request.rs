//! `release-ledger rollback request`: requests a rollback with exactly the plan that was made.

use anyhow::Context as _;
use ledger_api_types::{PlanBody, RequestedRollbackBody, RollbackRequest};
use ledger_domain::event::Actor;
use ledger_domain::{LongText, ShortText};
use serde_json::{Value, json};

use crate::author::ActorArgs;
use crate::connection::{Client, Connection};
use crate::identity;
use crate::output::print_json_or_text;
use crate::plan::{PlanRequest, render};
use crate::query::{head, read};

/// The command `rollback request`.
#[derive(Debug, clap::Args)]
pub struct RequestRollback {
    #[command(flatten)]
    plan_request: PlanRequest,
    #[command(flatten)]
    request: RequestArgs,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    /// Print {"rollback_id":…, "position":N, "status":…, "plan":{…}}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Flags of a request, besides the plan and the reason.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RequestArgs {
    /// Override the issues that can be overridden; the reason explains why
    #[arg(long)]
    pub(crate) force: bool,
    /// The id of the rollback [default: a new id]
    #[arg(long, value_name = "ID", value_parser = ShortText::parse_identifier)]
    pub(crate) id: Option<ShortText>,
    #[command(flatten)]
    pub(crate) by: ActorArgs,
}

/// A requested rollback.
pub(crate) struct RequestedRollback {
    pub(crate) rollback_id: ShortText,
    pub(crate) plan: PlanBody,
    position: u64,
    status: String,
    plan_json: Value,
}

impl RequestRollback {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let requested = request_rollback(&client, &self.plan_request, &self.request, &self.reason).await?;
        let RequestedRollback { rollback_id, plan, position, status, plan_json } = requested;
        let text = if self.json {
            let id = rollback_id.as_str();
            json!({"rollback_id": id, "position": position, "status": status, "plan": plan_json}).to_string()
        } else {
            let result = match status.as_str() {
                "duplicate" => "was requested before",
                _ => "is requested",
            };
            format!("rollback {rollback_id} {result} (position {position})\n{}", render(&plan))
        };
        Ok(print_json_or_text(self.json, &text)?)
    }
}

/// Makes a plan as of the ledger's last entry, and requests it.
pub(crate) async fn request_rollback(
    client: &Client,
    plan_request: &PlanRequest,
    request: &RequestArgs,
    reason: &LongText,
) -> anyhow::Result<RequestedRollback> {
    let by = request.by.actor()?;
    let rollback_id = match &request.id {
        Some(id) => id.clone(),
        None => ShortText::parse(&identity::new_id())?,
    };
    let planned = plan_request.plan(client, Some(head(client).await?)).await?;
    let plan: PlanBody = read(&planned)?;
    let body = body(plan_request, &plan, &by, request.force, reason, &rollback_id);
    let url = client.url(&["environments", plan_request.environment.as_str(), "rollbacks"]);
    let response = client.post(url, &body, Some(plan.environment_position)).await;
    let response = response.map_err(|error| {
        let is_temporary = error.is_temporary();
        let error = anyhow::Error::from(error);
        if !is_temporary {
            return error;
        }
        error.context(format!(
            "the rollback may or may not be requested; repeat with --id {rollback_id}: it is requested \
             only once"
        ))
    })?;
    let RequestedRollbackBody { position, status, .. } = read(&response)?;
    let plan_json = serde_json::from_slice(&planned).context("cannot parse the plan")?;
    Ok(RequestedRollback { rollback_id, plan, position, status, plan_json })
}

fn body(
    plan_request: &PlanRequest,
    plan: &PlanBody,
    by: &Actor,
    force: bool,
    reason: &LongText,
    rollback_id: &ShortText,
) -> RollbackRequest {
    RollbackRequest {
        reason: Some(reason.as_str().to_owned()),
        initiated_by: Some(by.into()),
        force,
        rollback_id: Some(rollback_id.to_string()),
        plan_digest: Some(plan.plan_digest.clone()),
        ..plan_request.body()
    }
}
