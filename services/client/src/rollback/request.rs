//! `release-ledger rollback request`: a rollback is asked for, with the plan that was seen.

use anyhow::Context as _;
use ledger_domain::event::Actor;
use ledger_domain::{LongText, ShortText};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::actor::{self, By};
use crate::connection::{Client, Connection};
use crate::identity;
use crate::output::show_either;
use crate::plan::{PlanBody, Wish, render};
use crate::query::{head, read};

/// The command `rollback request`.
#[derive(Debug, clap::Args)]
pub struct RequestRollback {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    request: Request,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    /// Print {"rollback_id":…,"position":N,"status":…,"plan":{…}}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// How a rollback is asked for, apart from what is wanted and why.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Request {
    /// Pass what may be passed by force; the reason says why
    #[arg(long)]
    pub(crate) force: bool,
    /// The rollback's name [default: a new one]
    #[arg(long, value_name = "ID", value_parser = ShortText::parse)]
    pub(crate) id: Option<ShortText>,
    #[command(flatten)]
    pub(crate) by: By,
}

/// A rollback that is asked for.
pub(crate) struct Requested {
    pub(crate) rollback_id: ShortText,
    pub(crate) plan: PlanBody,
    position: u64,
    status: String,
    plan_json: Value,
}

#[derive(Debug, Deserialize)]
struct RequestedBody {
    position: u64,
    status: String,
}

impl RequestRollback {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client();
        let asked = requested(&client, &self.wish, &self.request, &self.reason).await?;
        let Requested { rollback_id, plan, position, status, plan_json } = asked;
        let text = if self.json {
            let id = rollback_id.as_str();
            json!({"rollback_id": id, "position": position, "status": status, "plan": plan_json}).to_string()
        } else {
            let about = match status.as_str() {
                "duplicate" => "was requested before",
                _ => "is requested",
            };
            format!("rollback {rollback_id} {about} (position {position})\n{}", render(&plan))
        };
        Ok(show_either(self.json, &text)?)
    }
}

/// Plans, as of the ledger's end, and asks for this plan.
pub(crate) async fn requested(
    client: &Client,
    wish: &Wish,
    request: &Request,
    reason: &LongText,
) -> anyhow::Result<Requested> {
    let by = request.by.actor()?;
    let rollback_id = match &request.id {
        Some(id) => id.clone(),
        None => ShortText::parse(&identity::new_id())?,
    };
    let answer = wish.planned(client, Some(head(client).await?)).await?;
    let plan: PlanBody = read(&answer)?;
    let body = body(wish, &plan, &by, request.force, reason, &rollback_id);
    let url = client.url(&["environments", wish.environment.as_str(), "rollbacks"]);
    let answered = client.post(url, &body, Some(plan.environment_position)).await;
    let answered = answered.map_err(|error| {
        let temporary = error.is_temporary();
        let error = anyhow::Error::from(error);
        if !temporary {
            return error;
        }
        error.context(format!(
            "it is not known whether the rollback is requested; ask again with --id {rollback_id}, it is requested once"
        ))
    })?;
    let RequestedBody { position, status } = read(&answered)?;
    let plan_json = serde_json::from_slice(&answer).context("the plan is JSON")?;
    Ok(Requested { rollback_id, plan, position, status, plan_json })
}

fn body(
    wish: &Wish,
    plan: &PlanBody,
    by: &Actor,
    force: bool,
    reason: &LongText,
    rollback_id: &ShortText,
) -> Value {
    let mut body = wish.body();
    body["reason"] = json!(reason.as_str());
    body["initiated_by"] = actor::body(by);
    body["force"] = json!(force);
    body["rollback_id"] = json!(rollback_id.as_str());
    body["plan_digest"] = json!(plan.plan_digest);
    body
}
