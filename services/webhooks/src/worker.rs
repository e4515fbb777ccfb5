//! Deliveries of one subscription: one entry at a time, in order, each until it is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_adapters::hooks::sign;
use ledger_codec::cloudevents::{Envelope, InvalidEvent};
use ledger_domain::event::{Actor, Event, Payload, SubscriptionDisabling};
use ledger_domain::{EventId, Identity, LongText, Position, ShortText, Source, TenantName};
use ledger_ingest::{RecordError, RecordOutcome, WEBHOOKS_SOURCE};
use ledger_projections::{
    DeliveryAttempt, DeliveryState, EventFilter, EventRow, HistoryMark, Lease, SubscriptionRow,
};
use ledger_streams::position::{FirstPosition, LEASE_MARGIN, LeasedPosition, PositionError};
use metrics::{counter, gauge, histogram};
use reqwest::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::sender::{Failure, FailureClass, Message};

/// Number of entries that are read at a time.
const PAGE_SIZE: u32 = 8;
/// Entries that do not pass the filter, after which the position is stored nevertheless.
const PASSED_OVER: u64 = 1_000;
/// Time that a request in progress has to end after the task is stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Interval at which the position is stored while no entry passes the filter: filters that are replaced while no process
/// delivers exclude entries up to there.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before a retry after a failure that is not the receiver's.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Maximum length in characters of a reason that is recorded in the ledger.
const MAX_REASON_CHARS: usize = 1_000;
/// Name of the deliverer as an actor.
const ACTOR_NAME: &str = "webhooks";

/// End of the deliveries.
enum End {
    /// The task is stopped.
    Stopped,
    /// The ledger records that the deliveries are given up.
    Disabled,
}

/// End of the delivery of an entry.
enum Delivery {
    /// The receiver acknowledged it, and its position is stored.
    Acknowledged,
    /// The task is stopped.
    Stopped,
    /// The ledger records that the deliveries are given up.
    Disabled,
}

/// Failure that is not the receiver's. The task reads its position again and retries.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Projections(#[from] ledger_projections::Error),
    #[error("cannot record that the subscription is disabled")]
    Record(#[source] RecordError),
    #[error("cannot compose the event that disables the subscription")]
    Compose(#[from] InvalidEvent),
    #[error("cannot write the entry at position {0}: {1}")]
    Render(Position, String),
}

/// Delivers the entries of one subscription.
pub(crate) struct Worker {
    context: Arc<Context>,
    row: SubscriptionRow,
    follower: String,
    filter: EventFilter,
    /// Filter of the settings that this process replaced, until the entries that it excluded are passed over.
    previous: Option<EventFilter>,
    /// State after the last attempt; `None` before it is read.
    state: Option<DeliveryState>,
    signals: Signals,
}

/// Signals of the deliverer to a task.
pub(crate) struct Signals {
    /// Number of reasons to look for entries.
    pub(crate) woken: watch::Receiver<u64>,
    /// Lease of the tenant's deliveries, as it was renewed last.
    pub(crate) leases: watch::Receiver<Lease>,
    /// Cancelled when the task has to stop.
    pub(crate) stop: CancellationToken,
}

impl Worker {
    pub(crate) fn new(
        context: Arc<Context>,
        row: SubscriptionRow,
        previous: Option<EventFilter>,
        signals: Signals,
    ) -> Self {
        let (follower, filter) = (row.follower(), row.event_filter());
        Self { context, row, follower, filter, previous, state: None, signals }
    }

    /// Delivers until the task is stopped or the subscription is disabled.
    pub(crate) async fn run(mut self) {
        let (tenant, name) = self.labels();
        while !self.signals.stop.is_cancelled() {
            match self.deliver().await {
                Ok(End::Stopped) => break,
                Ok(End::Disabled) => {
                    warn!(tenant, subscription = name, "subscription is disabled: its deliveries failed");
                    break;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(tenant, subscription = name, %error, cause, "cannot deliver to a webhook; retrying");
                    self.pause(RETRY_DELAY).await;
                }
            }
        }
        // The gauge of a process that does not deliver any more must not keep an alert alive.
        self.set_failures(0);
    }

    fn labels(&self) -> (String, String) {
        (self.context.subscriber.tenant.to_string(), self.row.subscription.name.to_string())
    }

    fn set_failures(&self, failures: u32) {
        let (tenant, subscription) = self.labels();
        gauge!("ledger_webhook_failures", "tenant" => tenant, "subscription" => subscription)
            .set(f64::from(failures));
    }

    /// Sleeps. Returns false if the task is stopped.
    async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.signals.stop.cancelled() => false,
            () = sleep(duration) => true,
        }
    }

    async fn deliver(&mut self) -> Result<End, Error> {
        let context = Arc::clone(&self.context);
        let projections = context.projections();
        let leases = self.signals.leases.clone();
        let first = FirstPosition::AtLeast(self.row.start());
        let start = LeasedPosition::start(projections, &self.follower, first, || leases.borrow().clone());
        let mut position = tokio::select! {
            started = start => started?,
            () = self.signals.stop.cancelled() => return Ok(End::Stopped),
        };
        if self.state.is_none() {
            self.state = Some(self.stored_state().await?);
        }
        self.pass_over(&mut position).await?;
        let mut is_due = false;
        loop {
            if self.signals.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            self.signals.woken.borrow_and_update();
            let (projected, entries) = projections.events(&self.filter, position.get(), PAGE_SIZE).await?;
            if entries.is_empty() {
                // The entries in between do not pass the filter.
                let passed_over = projected.get().saturating_sub(position.get().get());
                if passed_over >= PASSED_OVER || (is_due && passed_over > 0) {
                    self.advance(&mut position, projected).await?;
                }
                is_due = tokio::select! {
                    () = self.signals.stop.cancelled() => return Ok(End::Stopped),
                    changed = self.signals.woken.changed() => match changed {
                        Ok(()) => false,
                        Err(_) => return Ok(End::Stopped),
                    },
                    () = sleep(IDLE_INTERVAL) => true,
                };
            }
            for entry in entries {
                match self.deliver_entry(entry, &mut position).await? {
                    Delivery::Acknowledged => {}
                    Delivery::Stopped => return Ok(End::Stopped),
                    Delivery::Disabled => return Ok(End::Disabled),
                }
            }
        }
    }

    /// Passes over the entries before the present settings that the previous ones did not select. An entry that the
    /// previous settings had yet to deliver, and everything after it, is left to the present ones.
    async fn pass_over(&mut self, position: &mut LeasedPosition) -> Result<(), Error> {
        let Some(previous) = &self.previous else { return Ok(()) };
        let (_, entries) = self.context.projections().recorded_entries(previous, position.get(), 1).await?;
        let to = start_of_settings(self.row.settings_position, entries.first().map(|entry| entry.position));
        if to > position.get() {
            self.advance(position, to).await?;
        }
        self.previous = None;
        Ok(())
    }

    /// Returns the state after the last attempt of any process. Failures before a pause without attempts do not count:
    /// no process delivered then.
    async fn stored_state(&self) -> Result<DeliveryState, Error> {
        let settings = self.row.settings_position;
        let state = self.context.records.delivery_state(&self.follower, settings).await?.unwrap_or_default();
        let longest = TimeDelta::from_std(self.context.deliveries.backoff.longest).unwrap_or(TimeDelta::MAX);
        let is_interrupted = state.next_attempt_at.is_some_and(|next| self.context.now() - next > longest);
        Ok(if is_interrupted { DeliveryState { failing_since: None, ..state } } else { state })
    }

    /// Stores a position. Waits while the projections are switched, and briefly after the task is stopped.
    async fn advance(&self, position: &mut LeasedPosition, to: Position) -> Result<(), Error> {
        let lease = || self.signals.leases.borrow().clone();
        tokio::select! {
            advanced = position.advance(to, lease) => Ok(advanced?),
            () = self.stopped() => Err(Error::Position(PositionError::Lost)),
        }
    }

    /// Waits until the time that a stopped task has to end.
    async fn stopped(&self) {
        self.signals.stop.cancelled().await;
        sleep(STOP_GRACE).await;
    }

    /// Attempts to deliver an entry until the receiver acknowledges it, and stores its position then. Before, `position` is
    /// that of the entry before.
    async fn deliver_entry(
        &mut self,
        entry: EventRow,
        position: &mut LeasedPosition,
    ) -> Result<Delivery, Error> {
        let at = entry.position;
        let id = message_id(&self.context.subscriber.tenant, &self.follower, entry.mark());
        let body = (self.context.deliveries.render)(entry).map_err(|error| Error::Render(at, error))?;
        let body = Bytes::from(body);
        loop {
            let mut state = self.state.unwrap_or_default();
            if !self.wait_until(state.next_attempt_at).await {
                return Ok(Delivery::Stopped);
            }
            let Some(permits) = self.permits().await else { return Ok(Delivery::Stopped) };
            let (attempted_at, started) = (self.context.now(), Instant::now());
            let Some(result) = self.attempt(&id, body.clone(), attempted_at).await else {
                return Ok(Delivery::Stopped);
            };
            drop(permits);
            let duration = started.elapsed();
            self.update(&mut state, &result, attempted_at);
            self.state = Some(state);
            // The position first: without it, the entry is delivered again. The log is only read by people.
            let advanced = match &result {
                Ok(_) => self.advance(position, at).await,
                Err(_) => Ok(()),
            };
            let (status, error) = match &result {
                Ok(status) => (Some(status.as_u16()), None),
                Err(failure) => (failure.status().map(|status| status.as_u16()), Some(failure.detail())),
            };
            self.count(at, duration, &result, &state);
            self.record(&DeliveryAttempt { position: at, attempted_at, duration, status, error }, &state)
                .await;
            advanced?;
            let Err(failure) = result else { return Ok(Delivery::Acknowledged) };
            if let Some(reason) = self.reason_to_give_up(&failure, &state) {
                self.disable(position.get(), &reason).await?;
                return Ok(Delivery::Disabled);
            }
        }
    }

    /// Adds an attempt to the log. Deliveries continue without it.
    async fn record(&self, attempt: &DeliveryAttempt, state: &DeliveryState) {
        let settings = self.row.settings_position;
        let recorded = self.context.records.record_attempt(&self.follower, settings, attempt, state).await;
        if let Err(error) = recorded {
            let (tenant, subscription) = self.labels();
            warn!(tenant, subscription, %error, "cannot log an attempt to deliver to a webhook; continuing");
        }
    }

    /// Waits until a time. Returns false if the task is stopped.
    async fn wait_until(&self, time: Option<DateTime<Utc>>) -> bool {
        let Some(time) = time else { return !self.signals.stop.is_cancelled() };
        let delay = (time - self.context.now()).to_std().unwrap_or_default();
        // A clock that was set back must not stop the deliveries.
        self.pause(delay.min(self.context.deliveries.backoff.longest)).await
    }

    /// Waits until the lease lasts longer than a delivery, and for permits of the tenant and of the process. Returns `None`
    /// if the task is stopped.
    async fn permits(&mut self) -> Option<[OwnedSemaphorePermit; 2]> {
        let needed = self.context.deliveries.sender.max_duration() + LEASE_MARGIN;
        let of_tenant = Arc::clone(&self.context.permits);
        let of_process = Arc::clone(&self.context.deliveries.permits);
        loop {
            if self.signals.leases.borrow_and_update().remaining() < needed {
                tokio::select! {
                    () = self.signals.stop.cancelled() => return None,
                    changed = self.signals.leases.changed() => if changed.is_err() { return None },
                }
                continue;
            }
            // The permit of the tenant first: its subscriptions that wait for one take no permit of the process.
            let permits = async {
                let of_tenant = Arc::clone(&of_tenant).acquire_owned().await.ok()?;
                Some([of_tenant, Arc::clone(&of_process).acquire_owned().await.ok()?])
            };
            let permits = tokio::select! {
                () = self.signals.stop.cancelled() => return None,
                permits = permits => permits,
            };
            // The lease may have become shorter meanwhile: then again, without the permits.
            if self.signals.leases.borrow().remaining() >= needed {
                return permits;
            }
        }
    }

    /// Sends an entry once. Returns `None` if the task is stopped before the answer.
    async fn attempt(&self, id: &str, body: Bytes, at: DateTime<Utc>) -> Option<Result<StatusCode, Failure>> {
        let name = &self.row.subscription.secret;
        let secrets = self.context.subscriber.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        if secrets.is_empty() {
            let detail = format!("the settings of the service have no secret {name} for this tenant");
            return Some(Err(Failure::without_answer(FailureClass::Secret, detail)));
        }
        let signature = sign(secrets, id, at.timestamp(), &body);
        let url = &self.row.subscription.url;
        let message = Message { url, id, timestamp: at.timestamp(), signature: &signature, body };
        tokio::select! {
            result = self.context.deliveries.sender.send(message, at) => Some(result),
            () = self.stopped() => None,
        }
    }

    /// Changes the state after an attempt.
    fn update(&self, state: &mut DeliveryState, result: &Result<StatusCode, Failure>, at: DateTime<Utc>) {
        let Err(failure) = result else {
            *state = DeliveryState::default();
            return;
        };
        state.failures = state.failures.saturating_add(1);
        state.failing_since.get_or_insert(at);
        // Without a random number, the delay is the longest.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let delay = self.context.deliveries.backoff.delay(state.failures, random, failure.retry_after);
        state.next_attempt_at = Some(self.context.now() + delay);
    }

    /// Logs and counts an attempt. The log of the process has no text of the receiver.
    fn count(
        &self,
        position: Position,
        duration: Duration,
        result: &Result<StatusCode, Failure>,
        state: &DeliveryState,
    ) {
        let (tenant, subscription) = self.labels();
        let outcome = if result.is_ok() { "delivered" } else { "failed" };
        if let Err(failure) = result {
            let reason = &failure.reason;
            info!(tenant, subscription, %position, reason, "delivery to a webhook failed");
        }
        self.set_failures(state.failures);
        histogram!("ledger_webhook_attempt_seconds", "tenant" => tenant.clone())
            .record(duration.as_secs_f64());
        counter!(
            "ledger_webhook_attempts_total",
            "tenant" => tenant,
            "subscription" => subscription,
            "outcome" => outcome
        )
        .increment(1);
    }

    /// Returns the reason to give up, if there is one. The ledger keeps it: it has nothing that the receiver chose but the
    /// status.
    fn reason_to_give_up(&self, failure: &Failure, state: &DeliveryState) -> Option<String> {
        let class = failure.class;
        if failure.is_gone() {
            return Some(format!("the receiver wants no deliveries ({class})"));
        }
        let bound = self.context.deliveries.give_up_after;
        let failing = (self.context.now() - state.failing_since?).to_std().ok()?;
        let seconds = failing.as_secs();
        (failing >= bound)
            .then(|| format!("no delivery succeeded for {seconds} s; the last failure: {class}"))
    }

    /// Records that the deliveries are given up. Another process that does the same finds the event.
    async fn disable(&self, delivered: Position, reason: &str) -> Result<(), Error> {
        let name = &self.row.subscription.name;
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let text = |text| ShortText::parse(text).expect("a constant is valid");
        let settings_position = self.row.settings_position;
        let disabling =
            SubscriptionDisabling { name: name.clone(), settings_position, delivered_position: delivered };
        let event = Event {
            payload: Payload::SubscriptionDisabled(disabling),
            actor: Some(Actor { kind: text("workload"), name: text(ACTOR_NAME) }),
            sender: None,
            reason: Some(LongText::parse(&reason).expect("a truncated line is valid")),
            links: Vec::new(),
            corrects: None,
        };
        let identity = own_identity(&format!("{name}-{settings_position}-disabled"));
        let envelope = Envelope::compose(identity, self.context.now(), event)?;
        match self.context.subscriber.ingest.record_own(envelope).await {
            RecordOutcome::Recorded(_) => {
                let tenant = self.context.subscriber.tenant.to_string();
                counter!("ledger_webhook_disabled_total", "tenant" => tenant).increment(1);
                Ok(())
            }
            // Another process was first; it may have stated another reason.
            RecordOutcome::Duplicate(_) | RecordOutcome::Conflict(_) => Ok(()),
            RecordOutcome::Refused(error) => Err(Error::Record(error)),
        }
    }
}

/// Returns the position after which the entries are delivered that new settings select. `waiting` is the position of the
/// first entry that the previous settings had yet to deliver, if there is one.
fn start_of_settings(settings: Position, waiting: Option<Position>) -> Position {
    match waiting {
        Some(waiting) if waiting < settings => Position::new(waiting.get().saturating_sub(1)),
        _ => settings,
    }
}

/// Returns the identity of a delivery. It is the same in each attempt, of any process. An entry of another history at the
/// same position has another one.
fn message_id(tenant: &TenantName, follower: &str, entry: HistoryMark) -> String {
    let HistoryMark { position, leaf_hash } = entry;
    let identity = own_identity(&format!("{tenant}/{follower}/{position}/{leaf_hash}"));
    format!("msg_{}", identity.key().0.simple())
}

/// Returns the identity of an event or a delivery of this crate.
fn own_identity(id: &str) -> Identity {
    Identity {
        source: Source::parse(WEBHOOKS_SOURCE).expect("a constant URN is a valid source"),
        id: EventId::parse(id).expect("names and numbers form a valid id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: u64, leaf: [u8; 32]) -> HistoryMark {
        HistoryMark { position: Position::new(position), leaf_hash: leaf.into() }
    }

    #[test]
    fn an_entry_has_one_identity_and_another_entry_at_its_position_has_another() {
        let tenant = TenantName::default();
        let id = |entry| message_id(&tenant, "webhook/chat@3", entry);

        assert_eq!(id(mark(7, [1; 32])), id(mark(7, [1; 32])));
        assert_ne!(id(mark(7, [1; 32])), id(mark(7, [2; 32])));
        assert_ne!(id(mark(7, [1; 32])), id(mark(8, [1; 32])));
        assert_ne!(id(mark(7, [1; 32])), message_id(&tenant, "webhook/chat@4", mark(7, [1; 32])));
    }

    #[test]
    fn new_settings_begin_where_the_previous_ones_had_arrived() {
        let start =
            |waiting: Option<u64>| start_of_settings(Position::new(10), waiting.map(Position::new)).get();

        assert_eq!(start(None), 10, "nothing waited: no backlog that the previous filter excluded");
        assert_eq!(start(Some(4)), 3, "the entry that waited is the first");
        assert_eq!(start(Some(12)), 10, "it is later than the new settings");
    }
}
