//! Who asks for rollbacks, of every environment and through both services, and ends what is under way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_tests::{Answer, Client};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::author::{Aim, ENVIRONMENTS, Event, envelope};
use crate::load::{Phase, Shared, post};
use crate::model::{Outcome, problem};
use crate::plan::SERVICES;
use ledger_tests::Random;

/// How long an answer is waited for: longer than the ledger judges.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long it rests after each rollback, in milliseconds.
const REST: (u64, u64) = (100, 700);

/// Asks until it is told to stop.
pub(crate) async fn ask(mut shared: Shared, mut random: Random, stint: u64, start: DateTime<Utc>) {
    let mut number = 0;
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        if phase == Phase::Drain {
            phase = shared.idle().await;
            continue;
        }
        number += 1;
        let environment = random.pick(&ENVIRONMENTS);
        let to = random.within(1, shared.model().head().max(1));
        let id = format!("{stint}-rollback-{number}");
        let wish = json!({
            "to": to.to_string(), "rollback_id": id, "reason": "Customers see errors.",
            "initiated_by": {"type": "person", "name": "mia"}, "force": true,
        });
        let path = format!("/v1/environments/{environment}/rollbacks");
        match request(&shared, &mut random, &path, &wish.to_string()).await {
            Some(answer) if answer.status == 201 => {
                let position = answer.body["position"].as_u64().unwrap_or_default();
                {
                    let mut model = shared.model();
                    model.acknowledged(position);
                    model.rollbacks.entry(id.clone()).or_default().push(position);
                }
                shared.report.count("rollbacks recorded", 1);
                if random.percent(50) {
                    step(&shared, &mut random, environment, &id, "started", start).await;
                }
                step(&shared, &mut random, environment, &id, "cancelled", start).await;
            }
            Some(answer) if answer.problem() == "rollback-under-way" => {
                shared.report.count("rollbacks refused: another was under way", 1);
                // Whoever asked for it, the ledger itself perhaps: it is ended.
                if let Some(other) = named(&shared, &mut random, &answer).await {
                    step(&shared, &mut random, environment, &other, "cancelled", start).await;
                }
            }
            Some(_) => shared.report.count("rollbacks refused: for other reasons", 1),
            None => {}
        }
        sleep(Duration::from_millis(random.within(REST.0, REST.1))).await;
        phase = shared.now();
    }
}

/// Asks, and asks again until somebody knows.
async fn request(shared: &Shared, random: &mut Random, path: &str, wish: &str) -> Option<Answer> {
    while shared.now() != Phase::Stop {
        let client = &shared.clients[random.below(SERVICES as u64) as usize];
        let request = client.request(Method::POST, path).header("content-type", "application/json");
        match Client::try_send(request.body(wish.to_owned()).timeout(PATIENCE)).await {
            Ok(answer) if answer.status < 500 => return Some(answer),
            Ok(answer) => shared.report.refused(&problem(&answer.body), 1),
            Err(_) => shared.report.refused("no answer to a request for a rollback", 1),
        }
        sleep(Duration::from_millis(random.within(50, 400))).await;
    }
    None
}

/// The rollback that is in the way.
async fn named(shared: &Shared, random: &mut Random, answer: &Answer) -> Option<String> {
    let position = answer.body["position"].as_u64()?;
    let client = &shared.clients[random.below(SERVICES as u64) as usize];
    let request = client.request(Method::GET, &format!("/v1/events/{position}")).timeout(PATIENCE);
    let entry = Client::try_send(request).await.ok()?;
    Some(entry.body["event"]["data"]["rollback_id"].as_str()?.to_owned())
}

/// Reports a step of a rollback, again and again until it is judged.
async fn step(
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
    let event = Event { id, bytes, aim: Aim::Judged };
    while shared.now() != Phase::Stop {
        let service = random.below(SERVICES as u64) as usize;
        let outcomes = post(shared, service, std::slice::from_ref(&event), false).await;
        if outcomes.first().is_some_and(Outcome::is_final) {
            return;
        }
        sleep(Duration::from_millis(random.within(50, 400))).await;
    }
}
