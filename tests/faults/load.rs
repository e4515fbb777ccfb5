//! The load of a stint: senders that repeat each event until its outcome is final, queries and rollbacks.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_tests::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::generator::{AUTOMATIC, Event, Expected, Generator, envelope};
use crate::observations::{Observations, Outcome};
use crate::plan::{SERVICES, Stint};
use crate::report::Report;
use crate::shared::{Phase, Shared, post};
use crate::{queries, rollbacks};
use ledger_tests::Random;

/// Number of events to send again above which a sender sends no new ones.
const MAX_BACKLOG_EVENTS: usize = 300;
/// Number of senders with one event per request.
const SINGLE_SENDERS: u64 = 4;
/// Number of senders with several events per request.
const BULK_SENDERS: u64 = 2;

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
        let shared = Shared::new(clients, Arc::clone(report), phase.subscribe(), Arc::clone(&busy));
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
