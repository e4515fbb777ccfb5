//! State that the tasks of the load share, and the requests that send events.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ledger_tests::Client;
use reqwest::Method;
use tokio::sync::watch;

use crate::generator::{Event, Expected};
use crate::observations::{Observations, Outcome, problem};
use crate::report::Report;

/// Timeout of a request. Short, because a sender that waits sends nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Phase of the load, for all its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Send new events and those without a final outcome.
    Send,
    /// Send only events without a final outcome.
    Drain,
    /// End.
    Stop,
}

/// State that all tasks of the load share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// A client of each service.
    pub(crate) clients: Vec<Client>,
    observations: Arc<Mutex<Observations>>,
    pub(crate) report: Arc<Report>,
    phase: watch::Receiver<Phase>,
    /// Number of tasks that still have something to send.
    busy: Arc<watch::Sender<usize>>,
}

impl Shared {
    pub(crate) fn new(
        clients: Vec<Client>,
        report: Arc<Report>,
        phase: watch::Receiver<Phase>,
        busy: Arc<watch::Sender<usize>>,
    ) -> Self {
        Self { clients, observations: Arc::new(Mutex::new(Observations::new())), report, phase, busy }
    }

    pub(crate) fn observations(&self) -> std::sync::MutexGuard<'_, Observations> {
        self.observations.lock().expect("no thread panics while it holds the lock")
    }

    pub(crate) fn phase_now(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Marks the task as idle and waits for the next phase after [`Phase::Drain`].
    pub(crate) async fn idle(&mut self) -> Phase {
        self.busy.send_modify(|busy| *busy -= 1);
        // `Load` keeps the sender while its tasks run.
        let next =
            self.phase.wait_for(|phase| *phase != Phase::Drain).await.map_or(Phase::Stop, |phase| *phase);
        self.busy.send_modify(|busy| *busy += 1);
        next
    }
}

/// Sends events to a service. Adds their outcomes to the observations, and returns them, one for each event.
pub(crate) async fn post(shared: &Shared, service: usize, events: &[Event], bulk: bool) -> Vec<Outcome> {
    let contents: Vec<usize> = {
        let mut observations = shared.observations();
        events.iter().map(|event| observations.register(&event.id, &event.bytes)).collect()
    };
    let bytes: Vec<&str> = events.iter().map(|event| event.bytes.as_str()).collect();
    let content_type = if bulk { "application/x-ndjson" } else { "application/cloudevents+json" };
    let request = shared.clients[service].request(Method::POST, "/v1/events");
    let request = if bulk { request.header("prefer", "return=minimal") } else { request };
    let request =
        request.header("content-type", content_type).body(bytes.join("\n")).timeout(REQUEST_TIMEOUT);
    let began = Instant::now();
    let outcomes: Vec<Outcome> = match Client::try_send(request).await {
        Ok(response) if bulk && matches!(response.status, 201 | 207) => {
            response.lines().iter().map(Outcome::from_line).collect()
        }
        Ok(response) if bulk => vec![Outcome::Unknown(problem(&response.body)); events.len()],
        Ok(response) => vec![Outcome::from_response(&response)],
        Err(error) if error.is_timeout() => vec![Outcome::Unknown("timeout".into()); events.len()],
        Err(_) => vec![Outcome::Unknown("no connection, or connection lost".into()); events.len()],
    };
    let mut observations = shared.observations();
    if outcomes.len() != events.len() {
        observations.violation(format!("{} events got {} outcomes", events.len(), outcomes.len()));
    }
    check_order(&mut observations, events, &outcomes);
    for ((event, content), outcome) in events.iter().zip(contents).zip(&outcomes) {
        observations.add_outcome(&event.id, content, outcome);
        match (outcome, event.expected) {
            (Outcome::Rejected(problem), Expected::Rejected) if problem == "event-from-the-future" => {}
            (Outcome::Rejected(_), Expected::Decided) => {}
            (Outcome::Unknown(problem), _) => shared.report.temporary_failure(problem, 1),
            (Outcome::Recorded(_) | Outcome::Duplicate(_) | Outcome::Conflict, Expected::Rejected)
            | (Outcome::Rejected(_), _) => {
                let after = began.elapsed();
                observations.violation(format!(
                    "the outcome of {} after {after:?} is {outcome:?}: {}",
                    event.id, event.bytes
                ));
            }
            _ => {}
        }
    }
    outcomes
}

/// Checks that the events recorded by one request keep their order. An event with an unknown outcome must be recorded
/// before the next recorded event of the request, or not yet.
fn check_order(observations: &mut Observations, events: &[Event], outcomes: &[Outcome]) {
    let mut next = None;
    for (event, outcome) in events.iter().zip(outcomes).rev() {
        match outcome {
            Outcome::Recorded(position) => {
                if next.is_some_and(|next| next <= *position) {
                    observations.violation(format!("a request was recorded out of order: {outcomes:?}"));
                    return;
                }
                next = Some(*position);
            }
            Outcome::Unknown(_) => {
                if let Some(next) = next {
                    // It may have been recorded by another request, or by this one if it is contained twice.
                    observations.require_before(&event.id, next);
                }
            }
            _ => {}
        }
    }
}
