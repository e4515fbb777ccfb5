//! Requests for rollbacks of all environments through both services. Each rollback that is under way gets cancelled.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_tests::{Client, Response};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::generator::{ENVIRONMENTS, Event, Expected, envelope};
use crate::observations::{Outcome, problem};
use crate::plan::SERVICES;
use crate::shared::{Phase, Shared, post};
use ledger_tests::Random;

/// Timeout of a request; longer than the ledger needs to decide.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// Minimum and maximum pause after each rollback, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 700);

/// Requests rollbacks until the load stops.
pub(crate) async fn run(mut shared: Shared, mut random: Random, stint: u64, start: DateTime<Utc>) {
    let mut number = 0;
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        if phase == Phase::Drain {
            phase = shared.idle().await;
            continue;
        }
        number += 1;
        let environment = random.pick(&ENVIRONMENTS);
        let to = random.within(1, shared.observations().head().max(1));
        let id = format!("{stint}-rollback-{number}");
        let body = json!({
            "to": to.to_string(), "rollback_id": id, "reason": "Customers see errors.",
            "initiated_by": {"type": "person", "name": "mia"}, "force": true,
        });
        let path = format!("/v1/environments/{environment}/rollbacks");
        match request(&shared, &mut random, &path, &body.to_string()).await {
            Some(response) if response.status == 201 => {
                let position = response.body["position"].as_u64().unwrap_or_default();
                {
                    let mut observations = shared.observations();
                    observations.acknowledged(position);
                    observations.rollbacks.entry(id.clone()).or_default().push(position);
                }
                shared.report.count("rollbacks recorded", 1);
                if random.percent(50) {
                    report_step(&shared, &mut random, environment, &id, "started", start).await;
                }
                report_step(&shared, &mut random, environment, &id, "cancelled", start).await;
            }
            Some(response) if response.problem() == "rollback-under-way" => {
                shared.report.count("rollbacks refused: another is under way", 1);
                // Cancel it, also if the ledger itself requested it.
                if let Some(other) = rollback_under_way(&shared, &mut random, &response).await {
                    report_step(&shared, &mut random, environment, &other, "cancelled", start).await;
                }
            }
            Some(_) => shared.report.count("rollbacks refused: other reasons", 1),
            None => {}
        }
        sleep(Duration::from_millis(random.within(PAUSE_MS.0, PAUSE_MS.1))).await;
        phase = shared.phase_now();
    }
}

/// Requests a rollback, and retries until a response is final.
async fn request(shared: &Shared, random: &mut Random, path: &str, body: &str) -> Option<Response> {
    while shared.phase_now() != Phase::Stop {
        let client = &shared.clients[random.below(SERVICES as u64) as usize];
        let request = client.request(Method::POST, path).header("content-type", "application/json");
        match Client::try_send(request.body(body.to_owned()).timeout(REQUEST_TIMEOUT)).await {
            Ok(response) if response.status < 500 => return Some(response),
            Ok(response) => shared.report.temporary_failure(&problem(&response.body), 1),
            Err(_) => shared.report.temporary_failure("no response to a rollback request", 1),
        }
        sleep(Duration::from_millis(random.within(50, 400))).await;
    }
    None
}

/// Returns the id of the rollback that a refusal names by its position.
async fn rollback_under_way(shared: &Shared, random: &mut Random, refusal: &Response) -> Option<String> {
    let position = refusal.body["position"].as_u64()?;
    let client = &shared.clients[random.below(SERVICES as u64) as usize];
    let request = client.request(Method::GET, &format!("/v1/events/{position}")).timeout(REQUEST_TIMEOUT);
    let entry = Client::try_send(request).await.ok()?;
    Some(entry.body["event"]["data"]["rollback_id"].as_str()?.to_owned())
}

/// Reports a step of a rollback, and retries until a response is final.
async fn report_step(
    shared: &Shared,
    random: &mut Random,
    environment: &str,
    rollback: &str,
    verb: &str,
    time: DateTime<Utc>,
) {
    let id = format!("{verb}-{rollback}");
    let data = json!({"environment": environment, "rollback_id": rollback});
    let bytes = envelope(&id, &format!("rollback.{verb}"), time, data);
    let event = Event { id, bytes, expected: Expected::Decided };
    while shared.phase_now() != Phase::Stop {
        let service = random.below(SERVICES as u64) as usize;
        let outcomes = post(shared, service, std::slice::from_ref(&event), false).await;
        if outcomes.first().is_some_and(Outcome::is_final) {
            return;
        }
        sleep(Duration::from_millis(random.within(50, 400))).await;
    }
}
