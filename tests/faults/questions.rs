//! Who asks while all goes on: an answer about a point in the past never changes, and one that waited for a
//! position has it.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{Answer, Client};
use reqwest::Method;
use tokio::time::sleep;

use crate::author::ENVIRONMENTS;
use crate::load::{Phase, Shared};
use crate::plan::SERVICES;
use ledger_tests::Random;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many answers are remembered.
const REMEMBERED: usize = 60;

/// The question what an environment ran at a position.
pub(crate) fn state(environment: &str, position: u64) -> String {
    format!("/v1/environments/{environment}/state?at={position}")
}

/// Asks until it is told to stop.
pub(crate) async fn ask(mut shared: Shared, mut random: Random) {
    let mut known: BTreeMap<(String, u64), String> = BTreeMap::new();
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        let client = shared.clients[random.below(SERVICES as u64) as usize].clone();
        if phase == Phase::Drain {
            // All is well now: whatever was told is told again, by both.
            for client in &shared.clients {
                for ((environment, position), told) in &known {
                    compare(&shared, client, environment, *position, told).await;
                }
            }
            shared
                .report
                .count("answers about the past compared", (known.len() * shared.clients.len()) as u64);
            phase = shared.idle().await;
            continue;
        }
        let head = shared.model().head();
        if head > 0 && (known.len() < REMEMBERED || random.percent(30)) {
            let environment = random.pick(&ENVIRONMENTS);
            let position = random.within(1.max(head.saturating_sub(200)), head);
            let wait = format!("&wait_for={position}&wait_ms=1000");
            if let Some(answer) = get(&client, &format!("{}{wait}", state(environment, position))).await
                && answer.status == 200
            {
                if answer.ledger_position.is_none_or(|at| at < position) {
                    shared.model().violated(format!(
                        "who waited for {position} was answered at {:?}",
                        answer.ledger_position
                    ));
                }
                if known.len() >= REMEMBERED {
                    let oldest = known.keys().nth(random.below(known.len() as u64) as usize).cloned();
                    oldest.and_then(|oldest| known.remove(&oldest));
                }
                let before = known.insert((environment.to_owned(), position), answer.text.clone());
                if before.is_some_and(|before| before != answer.text) {
                    changed(&shared, environment, position, &answer.text);
                }
            }
        } else if !known.is_empty() {
            let chosen = random.below(known.len() as u64) as usize;
            if let Some(((environment, position), told)) = known.iter().nth(chosen) {
                compare(&shared, &client, environment, *position, told).await;
            }
            shared.report.count("answers about the past compared", 1);
        }
        sleep(Duration::from_millis(random.within(5, 60))).await;
        phase = shared.now();
    }
}

async fn compare(shared: &Shared, client: &Client, environment: &str, position: u64, told: &str) {
    // Without an answer, or where the projections were set back by a crash, nothing is told.
    if let Some(answer) = get(client, &state(environment, position)).await
        && answer.status == 200
        && answer.text != told
    {
        changed(shared, environment, position, &format!("{told} and then {}", answer.text));
    }
}

fn changed(shared: &Shared, environment: &str, position: u64, told: &str) {
    shared.model().violated(format!("{environment} at {position} was told differently: {told}"));
}

async fn get(client: &Client, path: &str) -> Option<Answer> {
    Client::try_send(client.request(Method::GET, path).timeout(PATIENCE)).await.ok()
}
