//! Queries under load. A response about a past position never changes, and a query that waits for a position
//! includes it.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{Client, Response};
use reqwest::Method;
use tokio::time::sleep;

use crate::generator::ENVIRONMENTS;
use crate::plan::SERVICES;
use crate::shared::{Phase, Shared};
use ledger_tests::Random;

/// Timeout of a query.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum number of remembered responses.
const MAX_REMEMBERED: usize = 60;

/// Returns the path of the query for an environment's state at a position.
pub(crate) fn state(environment: &str, position: u64) -> String {
    format!("/v1/environments/{environment}/state?at={position}")
}

/// Queries states until the load stops.
pub(crate) async fn run(mut shared: Shared, mut random: Random) {
    let mut known: BTreeMap<(String, u64), String> = BTreeMap::new();
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        let client = shared.clients[random.below(SERVICES as u64) as usize].clone();
        if phase == Phase::Drain {
            // The faults have ended: both services must repeat every remembered response.
            for client in &shared.clients {
                for ((environment, position), expected) in &known {
                    compare(&shared, client, environment, *position, expected).await;
                }
            }
            shared
                .report
                .count("responses about the past compared", (known.len() * shared.clients.len()) as u64);
            phase = shared.idle().await;
            continue;
        }
        let head = shared.observations().head();
        if head > 0 && (known.len() < MAX_REMEMBERED || random.percent(30)) {
            let environment = random.pick(&ENVIRONMENTS);
            let position = random.within(1.max(head.saturating_sub(200)), head);
            let wait = format!("&wait_for={position}&wait_ms=1000");
            if let Some(response) = get(&client, &format!("{}{wait}", state(environment, position))).await
                && response.status == 200
            {
                if response.ledger_position.is_none_or(|at| at < position) {
                    shared.observations().violation(format!(
                        "a query that waits for {position} got a response at {:?}",
                        response.ledger_position
                    ));
                }
                if known.len() >= MAX_REMEMBERED {
                    let evicted = known.keys().nth(random.below(known.len() as u64) as usize).cloned();
                    evicted.and_then(|evicted| known.remove(&evicted));
                }
                let before = known.insert((environment.to_owned(), position), response.text.clone());
                if before.is_some_and(|before| before != response.text) {
                    changed(&shared, environment, position, &response.text);
                }
            }
        } else if !known.is_empty() {
            let chosen = random.below(known.len() as u64) as usize;
            if let Some(((environment, position), expected)) = known.iter().nth(chosen) {
                compare(&shared, &client, environment, *position, expected).await;
            }
            shared.report.count("responses about the past compared", 1);
        }
        sleep(Duration::from_millis(random.within(5, 60))).await;
        phase = shared.phase_now();
    }
}

async fn compare(shared: &Shared, client: &Client, environment: &str, position: u64, expected: &str) {
    // Any other status proves nothing: a crash of Postgres may have set the projections back.
    if let Some(response) = get(client, &state(environment, position)).await
        && response.status == 200
        && response.text != expected
    {
        changed(shared, environment, position, &format!("{expected}, then {}", response.text));
    }
}

fn changed(shared: &Shared, environment: &str, position: u64, responses: &str) {
    shared
        .observations()
        .violation(format!("the response about {environment} at {position} changed: {responses}"));
}

async fn get(client: &Client, path: &str) -> Option<Response> {
    Client::try_send(client.request(Method::GET, path).timeout(REQUEST_TIMEOUT)).await.ok()
}
