//! Deliveries of one subscription: one entry at a time, in order, each until it is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_adapters::hooks::sign;
use ledger_codec::cloudevents::{Envelope, InvalidEvent};
use ledger_domain::event::{Actor, Event, Payload, SubscriptionDisabling};
use ledger_domain::{EventId, Identity, LongText, Position, ShortText, Source};
use ledger_ingest::{RecordError, RecordOutcome, WEBHOOKS_SOURCE};
use ledger_projections::{
    DeliveryAttempt, DeliveryState, EventFilter, EventRow, FollowerCheckpoint, Lease, SubscriptionRow,
};
use metrics::{counter, gauge, histogram};
use reqwest::StatusCode;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::sender::{Failure, Message};

/// Number of entries that are read at a time.
const PAGE_SIZE: u32 = 8;
/// Entries that do not pass the filter, after which the position is stored nevertheless.
const PASSED_OVER: u64 = 1_000;
/// Time that a request in progress has to end after the task is stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Time that the lease must have beyond the longest delivery.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
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

/// What became of an entry.
enum Outcome {
    /// The receiver acknowledged it.
    Delivered,
    /// The deliveries end before it.
    Ended(End),
}

/// Failure that is not the receiver's. The task reads its position again and retries.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "the position is not this process's to advance: the lease is lost, or the history is another one"
    )]
    Fenced,
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
    woken: watch::Receiver<u64>,
    leases: watch::Receiver<Lease>,
    stop: CancellationToken,
}

impl Worker {
    pub(crate) fn new(
        context: Arc<Context>,
        row: SubscriptionRow,
        woken: watch::Receiver<u64>,
        leases: watch::Receiver<Lease>,
        stop: CancellationToken,
    ) -> Self {
        let (follower, filter) = (row.follower(), row.event_filter());
        Self { context, row, follower, filter, woken, leases, stop }
    }

    /// Delivers until the task is stopped or the subscription is disabled.
    pub(crate) async fn run(mut self) {
        let (tenant, name) = self.labels();
        while !self.stop.is_cancelled() {
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
            () = self.stop.cancelled() => false,
            () = sleep(duration) => true,
        }
    }

    async fn deliver(&mut self) -> Result<End, Error> {
        let context = Arc::clone(&self.context);
        let projections = context.projections();
        projections.start_follower(&self.follower, self.row.start()).await?;
        let mut checkpoint = projections.follower_checkpoint(&self.follower).await?;
        if checkpoint.position < self.row.start() {
            // The first position is not stored while the projections are switched.
            return Err(Error::Fenced);
        }
        let mut state = self.state().await?;
        loop {
            if self.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            self.woken.borrow_and_update();
            let (projected, entries) =
                projections.events(&self.filter, checkpoint.position, PAGE_SIZE).await?;
            if entries.is_empty() {
                // The entries in between do not pass the filter.
                if projected.get().saturating_sub(checkpoint.position.get()) >= PASSED_OVER {
                    checkpoint = self.advance(checkpoint, projected).await?;
                }
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(End::Stopped),
                    changed = self.woken.changed() => if changed.is_err() { return Ok(End::Stopped) },
                }
            }
            for entry in entries {
                let position = entry.position;
                match self.deliver_entry(entry, checkpoint.position, &mut state).await? {
                    Outcome::Delivered => checkpoint = self.advance(checkpoint, position).await?,
                    Outcome::Ended(end) => return Ok(end),
                }
            }
        }
    }

    /// Returns the state after the last attempt of any process. Failures before a pause without attempts do not count:
    /// no process delivered then.
    async fn state(&self) -> Result<DeliveryState, Error> {
        let (projections, settings) = (self.context.projections(), self.row.settings);
        let state = projections.delivery_state(&self.follower, settings).await?.unwrap_or_default();
        let longest = TimeDelta::from_std(self.context.deliveries.backoff.longest).unwrap_or(TimeDelta::MAX);
        let is_interrupted = state.next_attempt_at.is_some_and(|next| self.context.now() - next > longest);
        Ok(if is_interrupted { DeliveryState { failing_since: None, ..state } } else { state })
    }

    async fn advance(&self, from: FollowerCheckpoint, to: Position) -> Result<FollowerCheckpoint, Error> {
        let lease = self.leases.borrow().clone();
        match self.context.projections().advance_leased(&self.follower, &lease, from, to).await? {
            true => Ok(from.at(to)),
            false => Err(Error::Fenced),
        }
    }

    /// Attempts to deliver an entry until the receiver acknowledges it. `delivered` is the position of the entry before.
    async fn deliver_entry(
        &mut self,
        entry: EventRow,
        delivered: Position,
        state: &mut DeliveryState,
    ) -> Result<Outcome, Error> {
        let position = entry.position;
        let id = self.message_id(position);
        let body = (self.context.deliveries.render)(entry).map_err(|error| Error::Render(position, error))?;
        let body = Bytes::from(body);
        loop {
            if !self.wait_until(state.next_attempt_at).await {
                return Ok(Outcome::Ended(End::Stopped));
            }
            let permits = Arc::clone(&self.context.deliveries.permits);
            let permit = tokio::select! {
                () = self.stop.cancelled() => return Ok(Outcome::Ended(End::Stopped)),
                permit = permits.acquire_owned() => permit,
            };
            if !self.wait_for_lease().await {
                return Ok(Outcome::Ended(End::Stopped));
            }
            let (attempted_at, started) = (self.context.now(), Instant::now());
            let Some(result) = self.attempt(&id, body.clone(), attempted_at).await else {
                return Ok(Outcome::Ended(End::Stopped));
            };
            drop(permit);
            let duration = started.elapsed();
            self.update(state, &result, attempted_at);
            let (status, error) = match &result {
                Ok(status) => (Some(status.as_u16()), None),
                Err(failure) => (failure.status.map(|status| status.as_u16()), Some(failure.detail())),
            };
            let attempt = DeliveryAttempt { position, attempted_at, duration, status, error };
            self.count(&attempt, state);
            let settings = self.row.settings;
            self.context.projections().record_attempt(&self.follower, settings, &attempt, state).await?;
            match result {
                Ok(_) => return Ok(Outcome::Delivered),
                Err(failure) => {
                    if let Some(reason) = self.reason_to_give_up(&failure, state) {
                        self.disable(delivered, &reason).await?;
                        return Ok(Outcome::Ended(End::Disabled));
                    }
                }
            }
        }
    }

    /// Returns the identity of a delivery. It is the same in each attempt, of any process, and after a restore.
    fn message_id(&self, position: Position) -> String {
        let tenant = &self.context.subscriber.tenant;
        let identity = own_identity(&format!("{tenant}/{}/{position}", self.follower));
        format!("msg_{}", identity.key().0.simple())
    }

    /// Waits until a time. Returns false if the task is stopped.
    async fn wait_until(&self, time: Option<DateTime<Utc>>) -> bool {
        let Some(time) = time else { return !self.stop.is_cancelled() };
        let delay = (time - self.context.now()).to_std().unwrap_or_default();
        // A clock that was set back must not stop the deliveries.
        self.pause(delay.min(self.context.deliveries.backoff.longest)).await
    }

    /// Waits until the lease lasts longer than a delivery. Returns false if the task is stopped.
    async fn wait_for_lease(&mut self) -> bool {
        let needed = self.context.deliveries.sender.timeout() + LEASE_MARGIN;
        loop {
            if self.leases.borrow_and_update().remaining() >= needed {
                return !self.stop.is_cancelled();
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                changed = self.leases.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// Sends an entry once. Returns `None` if the task is stopped before the answer.
    async fn attempt(&self, id: &str, body: Bytes, at: DateTime<Utc>) -> Option<Result<StatusCode, Failure>> {
        let name = &self.row.subscription.secret;
        let secrets = self.context.subscriber.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        if secrets.is_empty() {
            let detail = format!("the settings of the service have no secret {name} for this tenant");
            return Some(Err(Failure::without_answer(detail)));
        }
        let signature = sign(secrets, id, at.timestamp(), &body);
        let url = &self.row.subscription.url;
        let message = Message { url, id, timestamp: at.timestamp(), signature: &signature, body };
        let stopped = async {
            self.stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        tokio::select! {
            result = self.context.deliveries.sender.send(message, at) => Some(result),
            () = stopped => None,
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

    fn count(&self, attempt: &DeliveryAttempt, state: &DeliveryState) {
        let (tenant, subscription) = self.labels();
        let outcome = if attempt.error.is_none() { "delivered" } else { "failed" };
        if let Some(error) = &attempt.error {
            info!(tenant, subscription, position = %attempt.position, error, "delivery to a webhook failed");
        }
        self.set_failures(state.failures);
        histogram!("ledger_webhook_attempt_seconds", "tenant" => tenant.clone())
            .record(attempt.duration.as_secs_f64());
        counter!(
            "ledger_webhook_attempts_total",
            "tenant" => tenant,
            "subscription" => subscription,
            "outcome" => outcome
        )
        .increment(1);
    }

    /// Returns the reason to give up, if there is one.
    fn reason_to_give_up(&self, failure: &Failure, state: &DeliveryState) -> Option<String> {
        if failure.is_gone() {
            return Some(failure.reason.clone());
        }
        let bound = self.context.deliveries.give_up_after;
        let failing = (self.context.now() - state.failing_since?).to_std().ok()?;
        let seconds = failing.as_secs();
        (failing >= bound).then(|| format!("no delivery succeeded for {seconds} s; last: {}", failure.reason))
    }

    /// Records that the deliveries are given up. Another process that does the same finds the event.
    async fn disable(&self, delivered: Position, reason: &str) -> Result<(), Error> {
        let name = &self.row.subscription.name;
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let text = |text| ShortText::parse(text).expect("a constant is valid");
        let disabling = SubscriptionDisabling { name: name.clone(), created: self.row.settings, delivered };
        let event = Event {
            payload: Payload::SubscriptionDisabled(disabling),
            actor: Some(Actor { kind: text("workload"), name: text(ACTOR_NAME) }),
            sender: None,
            reason: Some(LongText::parse(&reason).expect("a truncated line is valid")),
            links: Vec::new(),
            corrects: None,
        };
        let identity = own_identity(&format!("{name}-{}-disabled", self.row.settings));
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

/// Returns the identity of an event or a delivery of this crate.
fn own_identity(id: &str) -> Identity {
    Identity {
        source: Source::parse(WEBHOOKS_SOURCE).expect("a constant URN is a valid source"),
        id: EventId::parse(id).expect("names and numbers form a valid id"),
    }
}
