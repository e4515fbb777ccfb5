//! Records a history on a service; the recorded entries are the input of the model.

use ledger_tests::Client;
use serde_json::{Value, json};

use crate::entry::{Entry, micros};
use crate::generate::{Item, id, time, with_tag};

/// Source of all events of a history.
pub(crate) const SOURCE: &str = "https://model.example/histories";

/// The entries that a service recorded of a history.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Tag in all names.
    pub(crate) tag: String,
    /// Entries, ordered by position.
    pub(crate) entries: Vec<Entry>,
}

struct Driver<'c> {
    client: &'c Client,
    tag: &'c str,
    entries: Vec<Entry>,
    /// Item numbers with the positions of their entries, in recording order.
    positions: Vec<(u64, u64)>,
    /// Rollbacks: number of the requesting item, id, and steps of the plan.
    plans: Vec<(u64, String, Vec<Value>)>,
}

/// Sends the items one after the other, and waits until the projections contain them.
pub(crate) async fn record_history(client: &Client, items: &[Item], tag: &str) -> Recorded {
    let (entries, positions, plans) = (Vec::new(), Vec::new(), Vec::new());
    let mut driver = Driver { client, tag, entries, positions, plans };
    for item in items {
        driver.item(item).await;
    }
    if let Some(last) = driver.entries.last() {
        client.wait_for_projections(last.position).await;
    }
    Recorded { tag: tag.to_owned(), entries: driver.entries }
}

impl Driver<'_> {
    async fn item(&mut self, item: &Item) {
        let mut data = with_tag(&item.data, self.tag);
        for name in ["position", "to"] {
            let Some(number) = data[name]["item"].as_u64() else { continue };
            let position = self.positions.iter().rfind(|(item, _)| *item == number);
            // Skip the item if the one that it refers to was not recorded.
            let Some((_, position)) = position else { return };
            data[name] = (*position).into();
        }
        if data["of"].is_u64() && !self.plans.iter().any(|(number, _, _)| data["of"] == *number) {
            return;
        }
        if let Some(members) = data.as_object_mut().filter(|_| !["step", "redeploy"].contains(&&*item.kind)) {
            members.remove("of");
        }
        if data["acknowledge"] == "all" {
            let plan = self.plans.iter().find(|(number, _, _)| item.data["of"] == *number);
            let lanes = plan.into_iter().flat_map(|(_, _, steps)| steps);
            let lanes = lanes.map(|step| json!({"service": step["service"], "target": step["target"]}));
            data["acknowledge"] = lanes.collect();
            // Only a person may start a rollback of lanes that have changed.
            data["actor"] = json!({"type": "person", "name": "noa"});
        }
        let event = id(item.number);
        match &*item.kind {
            "rollback" => self.request(item, &event, &data).await,
            "step" | "redeploy" => self.step(item, &event, &data).await,
            kind => {
                self.record(item, &event, kind, data).await;
            }
        }
    }

    /// Records an event. Returns false if the service rejects it.
    async fn record(&mut self, item: &Item, event: &str, kind: &str, data: Value) -> bool {
        let event = with_tag(&event.into(), self.tag);
        let time = time(item.minutes);
        let body = json!({
            "specversion": "1.0",
            "id": event,
            "source": SOURCE,
            "type": format!("io.releaseledger.{kind}.v1"),
            "time": time,
            "data": data,
        });
        let response = Client::until_decided(|| self.client.record(&body)).await;
        assert!(response.status < 500, "{body}: {} {}", response.status, response.text);
        let position = response.body["position"].as_u64().filter(|_| response.status < 300);
        let Some(position) = position else { return false };
        self.positions.push((item.number, position));
        self.entries.push(Entry {
            position,
            occurred_at: micros(&time),
            kind: kind.to_owned(),
            source: SOURCE.to_owned(),
            id: event.as_str().unwrap_or_default().to_owned(),
            data,
        });
        true
    }

    /// Gets a rollback plan from the service, and records the request of that plan at the item's time.
    async fn request(&mut self, item: &Item, event: &str, data: &Value) {
        let to = data["to"].as_u64().map_or_else(|| data["to"].clone(), |to| to.to_string().into());
        let last = self.entries.last().map_or(0, |entry| entry.position);
        let environment = data["environment"].as_str().unwrap_or_default();
        let path = format!("/v1/environments/{environment}/rollbacks?dry_run=true&wait_for={last}");
        let body = json!({"to": to}).to_string();
        let post = || self.client.post(&path, "application/json", body.clone());
        let response = Client::until_decided(post).await;
        assert!(response.status < 500, "{path}: {} {}", response.status, response.text);
        if response.status != 200 {
            return;
        }
        let plan = response.body;
        let request = json!({
            "environment": environment,
            "rollback_id": data["rollback_id"],
            "to": plan["to"]["position"],
            "plan": {"from": plan["position"], "steps": plan["steps"]},
            "plan_digest": plan["plan_digest"],
            "initiated_by": data["initiated_by"],
            "force": plan["blocked"],
            "reason": "It fails.",
        });
        if self.record(item, event, "rollback.requested", request).await {
            let steps = plan["steps"].as_array().cloned().unwrap_or_default();
            let rollback = data["rollback_id"].as_str().unwrap_or_default().to_owned();
            self.plans.push((item.number, rollback, steps));
        }
    }

    /// Reports a step of a plan, or a later deploy of the release that it restored, outside the rollback.
    async fn step(&mut self, item: &Item, event: &str, data: &Value) {
        let plan = self.plans.iter().find(|(number, _, _)| data["of"] == *number);
        let Some((_, rollback, steps)) = plan else { return };
        let index = data["index"].as_u64().unwrap_or_default() as usize;
        let Some(step) = steps.get(index).cloned() else { return };
        let mut report = json!({
            "environment": data["environment"],
            "service": step["service"],
            "target": step["target"],
        });
        if item.kind == "step" {
            report["rollback_id"] = rollback.as_str().into();
        } else if step["to"].is_null() {
            return;
        }
        let slot = step["slot"].as_str().filter(|_| step["action"] != "remove");
        let bare = report.clone();
        if let Some(slot) = slot {
            report["slot"] = slot.into();
        }
        let switch = report.clone();
        report["release"] = step["to"].clone();
        if data["claims"] == true && step["to"].is_object() {
            self.record(item, &format!("{event}-claim"), "deploy.started", report.clone()).await;
        }
        match step["action"].as_str() {
            Some("remove") => {
                self.record(item, event, "deploy.removed", bare).await;
            }
            Some("switch") if item.kind == "step" => {
                self.record(item, event, "traffic.switched", switch).await;
            }
            _ => {
                self.record(item, event, "deploy.succeeded", report).await;
                if slot.is_some() {
                    self.record(item, &format!("{event}-switch"), "traffic.switched", switch).await;
                }
            }
        }
    }
}
