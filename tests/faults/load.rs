//! Senders: each sends what its author writes, and sends again what was not answered, until it is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger_tests::Client;
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::author::{AUTOMATIC, Aim, Author, Event, envelope};
use crate::model::{Model, Outcome, problem};
use crate::plan::{SERVICES, Stint};
use crate::report::Report;
use crate::{questions, rollbacks};
use ledger_tests::Random;

/// How long an answer is waited for. It is short: who waits sends nothing.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many events may wait to be sent again, before nothing new is sent.
const BACKLOG: usize = 300;
/// Senders of single events, and of many at once.
const SENDERS: (u64, u64) = (4, 2);

/// What everybody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Load.
    Send,
    /// Only what was not answered yet.
    Drain,
    /// The end.
    Stop,
}

/// What all of the load share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The services.
    pub(crate) clients: Vec<Client>,
    /// What is known.
    pub(crate) model: Arc<Mutex<Model>>,
    /// What is told.
    pub(crate) report: Arc<Report>,
    /// What to do.
    pub(crate) phase: watch::Receiver<Phase>,
    /// How many of the load still have something to send.
    busy: Arc<watch::Sender<usize>>,
}

impl Shared {
    pub(crate) fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().expect("nobody panicked while counting")
    }

    pub(crate) fn now(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Says that this part of the load has nothing more to send, and waits for what is next.
    pub(crate) async fn idle(&mut self) -> Phase {
        self.busy.send_modify(|busy| *busy -= 1);
        // The load holds the sender as long as this runs.
        let next =
            self.phase.wait_for(|phase| *phase != Phase::Drain).await.map_or(Phase::Stop, |phase| *phase);
        self.busy.send_modify(|busy| *busy += 1);
        next
    }
}

/// All that is sent and asked.
pub(crate) struct Load {
    phase: watch::Sender<Phase>,
    busy: Arc<watch::Sender<usize>>,
    shared: Shared,
    tasks: JoinSet<()>,
}

impl Load {
    /// Prepares the load of a stint, which waits for its first round.
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
            model: Arc::new(Mutex::new(Model::new())),
            report: Arc::clone(report),
            phase: phase.subscribe(),
            busy: Arc::clone(&busy),
        };
        let mut tasks = JoinSet::new();
        let random = |part: u64| Random::of(stint.seed, &[2, stint.number, part]);
        for number in 0..SENDERS.0 + SENDERS.1 {
            let bulk = number >= SENDERS.0;
            let name = format!("{}-{number}", stint.number);
            let author = Author::new(random(number), name, bulk, start);
            busy.send_modify(|busy| *busy += 1);
            tasks.spawn(send(shared.clone(), author, random(100 + number), bulk));
        }
        busy.send_modify(|busy| *busy += 1);
        tasks.spawn(rollbacks::ask(shared.clone(), random(200), stint.number, start));
        busy.send_modify(|busy| *busy += 1);
        tasks.spawn(questions::ask(shared.clone(), random(300)));
        Self { phase, busy, shared, tasks }
    }

    /// Declares the policy by which the ledger rolls back by itself.
    pub(crate) async fn declare(&self, stint: &Stint, start: DateTime<Utc>) {
        let policy = json!({
            "required_validations": ["smoke"],
            "automatic_rollback": {"checks": ["canary"], "cool_down_seconds": 0, "at_most_a_day": 100, "at_most_age_seconds": 315_360_000},
        });
        let id = format!("{}-policy", stint.number);
        let data = json!({"environment": AUTOMATIC, "policy": policy});
        let event =
            Event { bytes: envelope(&id, "environment.declared", start, data), id, aim: Aim::Recorded };
        let answered = post(&self.shared, 0, std::slice::from_ref(&event), false).await;
        if !matches!(answered.first(), Some(Outcome::Recorded(_))) {
            self.shared.model().violated(format!("the policy was answered {answered:?}"));
        }
    }

    /// What is known from outside.
    pub(crate) fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.shared.model()
    }

    /// Begins to send.
    pub(crate) fn go(&self) {
        self.shared.model().begins();
        self.phase.send_replace(Phase::Send);
    }

    /// Sends nothing new, and waits until all that was sent is answered.
    pub(crate) async fn drained(&self, within: Duration) -> Result<(), String> {
        self.phase.send_replace(Phase::Drain);
        let mut busy = self.busy.subscribe();
        let drained = tokio::time::timeout(within, busy.wait_for(|busy| *busy == 0));
        match drained.await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("not everything is answered within {within:?} after all is well")),
        }
    }

    /// Notes how long nothing has been acknowledged.
    pub(crate) async fn watch_silence(&self) {
        loop {
            sleep(Duration::from_millis(100)).await;
            let last = self.shared.model().last_acknowledged();
            self.shared.report.silence(last.elapsed());
        }
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        self.phase.send_replace(Phase::Stop);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no part of the load panics");
        }
    }
}

async fn send(mut shared: Shared, mut author: Author, mut random: Random, bulk: bool) {
    let mut backlog: Vec<Event> = Vec::new();
    // Nobody sends before the first round.
    let mut phase = shared.idle().await;
    while phase != Phase::Stop {
        let from_backlog =
            phase == Phase::Drain || backlog.len() > BACKLOG || (!backlog.is_empty() && random.percent(30));
        if phase == Phase::Drain && backlog.is_empty() {
            phase = shared.idle().await;
            continue;
        }
        let (events, service, twice) = if from_backlog {
            let count = if bulk { backlog.len().min(100) } else { 1 };
            // One identity with two contents goes in two requests, in the order in which they were written.
            let mut events: Vec<Event> = Vec::new();
            while events.len() < count
                && let Some(next) = backlog.first()
                && events.iter().all(|other| other.id != next.id)
            {
                events.push(backlog.remove(0));
            }
            (events, random.below(SERVICES as u64) as usize, false)
        } else {
            let sending = author.next();
            shared.report.odd(&sending.odd);
            (sending.events, sending.service, sending.twice)
        };
        let mut answers = if twice {
            let (one, other) = tokio::join!(post(&shared, 0, &events, bulk), post(&shared, 1, &events, bulk));
            // Either may be the answer that counts.
            one.into_iter().zip(other).map(|(one, other)| if one.is_final() { one } else { other }).collect()
        } else {
            post(&shared, service, &events, bulk).await
        };
        answers.truncate(events.len());
        let mut failed = false;
        for (event, answer) in events.into_iter().zip(answers) {
            if !answer.is_final() {
                failed = true;
                backlog.push(event);
            }
        }
        let pause = if failed { random.within(50, 400) } else { random.within(1, 15) };
        sleep(Duration::from_millis(pause)).await;
        phase = shared.now();
    }
}

/// Sends events to a service, and notes what it answers, one for each.
pub(crate) async fn post(shared: &Shared, service: usize, events: &[Event], bulk: bool) -> Vec<Outcome> {
    let contents: Vec<usize> = {
        let mut model = shared.model();
        events.iter().map(|event| model.sends(&event.id, &event.bytes)).collect()
    };
    let bytes: Vec<&str> = events.iter().map(|event| event.bytes.as_str()).collect();
    let content_type = if bulk { "application/x-ndjson" } else { "application/cloudevents+json" };
    let request = shared.clients[service].request(Method::POST, "/v1/events");
    let request = if bulk { request.header("prefer", "return=minimal") } else { request };
    let request = request.header("content-type", content_type).body(bytes.join("\n")).timeout(PATIENCE);
    let asked = Instant::now();
    let outcomes: Vec<Outcome> = match Client::try_send(request).await {
        Ok(answer) if bulk && matches!(answer.status, 201 | 207) => {
            answer.lines().iter().map(Outcome::of_line).collect()
        }
        Ok(answer) if bulk => vec![Outcome::Later(problem(&answer.body)); events.len()],
        Ok(answer) => vec![Outcome::of_answer(&answer)],
        Err(error) if error.is_timeout() => vec![Outcome::Later("no answer in time".into()); events.len()],
        Err(_) => vec![Outcome::Later("no connection, or lost".into()); events.len()],
    };
    let mut model = shared.model();
    if outcomes.len() != events.len() {
        model.violated(format!("{} events were answered {} times", events.len(), outcomes.len()));
    }
    in_order(&mut model, events, &outcomes);
    for ((event, content), outcome) in events.iter().zip(contents).zip(&outcomes) {
        model.hears(&event.id, content, outcome);
        match (outcome, event.aim) {
            (Outcome::Rejected(why), Aim::Refused) if why == "event-from-the-future" => {}
            (Outcome::Rejected(_), Aim::Judged) => {}
            (Outcome::Later(why), _) => shared.report.refused(why, 1),
            (Outcome::Recorded(_) | Outcome::Duplicate(_) | Outcome::Conflict, Aim::Refused)
            | (Outcome::Rejected(_), _) => {
                let after = asked.elapsed();
                model.violated(format!(
                    "{} was answered {outcome:?} after {after:?}: {}",
                    event.id, event.bytes
                ));
            }
            _ => {}
        }
    }
    outcomes
}

/// What one request recorded stands in its order; what may be sent again is before what was recorded after it,
/// or nowhere yet.
fn in_order(model: &mut Model, events: &[Event], outcomes: &[Outcome]) {
    let mut next = None;
    for (event, outcome) in events.iter().zip(outcomes).rev() {
        match outcome {
            Outcome::Recorded(position) => {
                if next.is_some_and(|next| next <= *position) {
                    model.violated(format!("one request was recorded out of its order: {outcomes:?}"));
                    return;
                }
                next = Some(*position);
            }
            Outcome::Later(_) => {
                if let Some(next) = next {
                    // It may be known already: as another request's, or as this one's, where it stands twice.
                    model.precedes(&event.id, next);
                }
            }
            _ => {}
        }
    }
}
