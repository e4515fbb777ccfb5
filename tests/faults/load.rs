//! The load of a stint: senders that repeat each event until its outcome is final, queries and rollbacks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger_tests::Client;
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::generator::{AUTOMATIC, Event, Expected, Generator, envelope};
use crate::observations::{Observations, Outcome, problem};
use crate::plan::{SERVICES, Stint};
use crate::report::Report;
use crate::{queries, rollbacks};
use ledger_tests::Random;

/// Timeout of a request. Short, because a sender that waits sends nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Number of events to send again above which a sender sends no new ones.
const MAX_BACKLOG_EVENTS: usize = 300;
/// Number of senders with one event per request.
const SINGLE_SENDERS: u64 = 4;
/// Number of senders with several events per request.
const BULK_SENDERS: u64 = 2;

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
    pub(crate) observations: Arc<Mutex<Observations>>,
    pub(crate) report: Arc<Report>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Number of tasks that still have something to send.
    busy: Arc<watch::Sender<usize>>,
}

impl Shared {
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

/// All tasks that send requests.
pub(crate) struct Load {
    phase: watch::Sender<Phase>,
    busy: Arc<watch::Sender<usize>>,
    shared: Shared,
    tasks: JoinSet<()>,
}

impl Load {
    /// Creates the load of a stint. It is idle until the first round.
    pub(crate) fn prepare(
        stint: &Stint,
        start: DateTime<Utc>,
        clients: Vec<Client>,
        report: &Arc<Report>,
    ) -> Self {
        let phase = watch::Sender::new(Phase::Drain);
        let busy = Arc::new(watch::Sender::new(0));
        let shared = Shared {
            clients,
            observations: Arc::new(Mutex::new(Observations::new())),
            report: Arc::clone(report),
            phase: phase.subscribe(),
            busy: Arc::clone(&busy),
        };
        let mut tasks = JoinSet::new();
        let random = |part: u64| Random::of(stint.seed, &[2, stint.number, part]);
        for number in 0..SINGLE_SENDERS + BULK_SENDERS {
            let bulk = number >= SINGLE_SENDERS;
            let name = format!("{}-{number}", stint.number);
            let generator = Generator::new(random(number), name, bulk, start);
            busy.send_modify(|busy| *busy += 1);
            tasks.spawn(send(shared.clone(), generator, random(100 + number), bulk));
        }
        busy.send_modify(|busy| *busy += 1);
        tasks.spawn(rollbacks::run(shared.clone(), random(200), stint.number, start));
        busy.send_modify(|busy| *busy += 1);
        tasks.spawn(queries::run(shared.clone(), random(300)));
        Self { phase, busy, shared, tasks }
    }

    /// Declares the policy for automatic rollbacks.
    pub(crate) async fn declare_policy(&self, stint: &Stint, start: DateTime<Utc>) {
        let policy = json!({
            "required_validations": ["smoke"],
            "automatic_rollback": {
                "checks": ["canary"],
                "cool_down_seconds": 0,
                "at_most_a_day": 100,
                "at_most_age_seconds": 315_360_000,
            },
        });
        let id = format!("{}-policy", stint.number);
        let data = json!({"environment": AUTOMATIC, "policy": policy});
        let bytes = envelope(&id, "environment.declared", start, data);
        let event = Event { bytes, id, expected: Expected::Recorded };
        let outcomes = post(&self.shared, 0, std::slice::from_ref(&event), false).await;
        if !matches!(outcomes.first(), Some(Outcome::Recorded(_))) {
            self.shared.observations().violation(format!("the policy was not recorded: {outcomes:?}"));
        }
    }

    /// Returns the requests and responses so far.
    pub(crate) fn observations(&self) -> std::sync::MutexGuard<'_, Observations> {
        self.shared.observations()
    }

    /// Starts a round.
    pub(crate) fn start_sending(&self) {
        self.shared.observations().reset_silence();
        self.phase.send_replace(Phase::Send);
    }

    /// Sends no new events and waits until every outcome is final.
    pub(crate) async fn drain(&self, within: Duration) -> Result<(), String> {
        self.phase.send_replace(Phase::Drain);
        let mut busy = self.busy.subscribe();
        let drained = tokio::time::timeout(within, busy.wait_for(|busy| *busy == 0));
        match drained.await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("some requests have no final outcome {within:?} after the faults ended")),
        }
    }

    /// Reports the time since the last acknowledgement, continuously.
    pub(crate) async fn track_silence(&self) {
        loop {
            sleep(Duration::from_millis(100)).await;
            let last = self.shared.observations().last_acknowledged();
            self.shared.report.silence(last.elapsed());
        }
    }

    /// Ends all tasks.
    pub(crate) async fn stop(mut self) {
        self.phase.send_replace(Phase::Stop);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no task panics");
        }
    }
}

async fn send(mut shared: Shared, mut generator: Generator, mut random: Random, bulk: bool) {
    let mut backlog: Vec<Event> = Vec::new();
    // Idle until the first round.
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        let from_backlog = phase == Phase::Drain
            || backlog.len() > MAX_BACKLOG_EVENTS
            || (!backlog.is_empty() && random.percent(30));
        if phase == Phase::Drain && backlog.is_empty() {
            phase = shared.idle().await;
            continue;
        }
        let (events, service, to_both) = if from_backlog {
            let count = if bulk { backlog.len().min(100) } else { 1 };
            // Two contents of one identity go into two requests, in the order of their generation.
            let mut events: Vec<Event> = Vec::new();
            while events.len() < count
                && let Some(next) = backlog.first()
                && events.iter().all(|other| other.id != next.id)
            {
                events.push(backlog.remove(0));
            }
            (events, random.below(SERVICES as u64) as usize, false)
        } else {
            let batch = generator.next();
            shared.report.irregularities(&batch.irregularities);
            (batch.events, batch.service, batch.to_both)
        };
        let mut outcomes = if to_both {
            let (one, other) = tokio::join!(post(&shared, 0, &events, bulk), post(&shared, 1, &events, bulk));
            // One final outcome is enough.
            one.into_iter().zip(other).map(|(one, other)| if one.is_final() { one } else { other }).collect()
        } else {
            post(&shared, service, &events, bulk).await
        };
        outcomes.truncate(events.len());
        let mut failed = false;
        for (event, outcome) in events.into_iter().zip(outcomes) {
            if !outcome.is_final() {
                failed = true;
                backlog.push(event);
            }
        }
        let pause = if failed { random.within(50, 400) } else { random.within(1, 15) };
        sleep(Duration::from_millis(pause)).await;
        phase = shared.phase_now();
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
