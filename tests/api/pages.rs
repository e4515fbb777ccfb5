//! Pages: each shows the answer of the API to its reader, and a form records the event that the command line sends.

mod credentials;
mod forms;
mod views;
mod visitor;

use ledger_tests::{Client, Guarded, Story, rollback_request};
use serde_json::json;

use visitor::Visitor;

const FLAGS: &[&str] = &["--only=http,projector", "--tenants=default,shop"];
const OVERVIEW: &str = "/t/default";
const ENVIRONMENT: &str = "/t/default/environments/production";
const ROLLBACKS: &str = "/t/default/rollbacks";
const ROLLBACK: &str = "/t/default/rollbacks/back-1";
const VOTE: &str = "/t/default/rollbacks/back-1/vote";
const QUESTION: &str = "/t/default/approvals/new?environment=production&service=web&version=v3";
const APPROVALS: &str = "/t/default/approvals";
const ENTRY: &str = "/t/default/events/2";

/// Every page that shows something of a tenant.
const PAGES: [&str; 6] = [OVERVIEW, ENVIRONMENT, ROLLBACKS, ROLLBACK, QUESTION, ENTRY];

/// A ledger of which production needs one approval, with a rollback of `web` from v2 to v1 that `mia` requested.
struct Stage {
    guarded: Guarded,
    mia: Visitor,
}

impl Stage {
    async fn start() -> Self {
        let guarded = Guarded::start(FLAGS, "").await;
        let mia = Visitor::new(&guarded, "mia", "person", &["*"], &["*"]).await;
        let story = Story::on(&guarded.admin);
        story.declare_policy(json!({"approvals": 1}), 0).await;
        let first = story.deploy("web", "v1", 1).await;
        story.deploy("web", "v2", 2).await;
        let requested = Story::on(&mia.api).request(rollback_request(&first.to_string(), "back-1")).await;
        let position = requested.ok()["position"].as_u64().expect("a position");
        guarded.admin.wait_for_projections(position).await;
        Self { guarded, mia }
    }

    /// Adds a person who may do everything in the tenant `default`.
    async fn person(&self, name: &str) -> Visitor {
        Visitor::new(&self.guarded, name, "person", &["*"], &["*"]).await
    }

    const fn admin(&self) -> &Client {
        &self.guarded.admin
    }
}
