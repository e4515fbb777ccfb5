//! Sends events for the commands that report something or ask for something, and prints what became of them.
//!
//! Invariants: a report that the ledger does not answer for is spooled; a command is sent at once or fails. An event is
//! lost only with an error that says so.

use anyhow::{anyhow, bail};
use ledger_api_types::{AnnotationsBody, EventResult, EventStatus};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, Family};
use serde_json::json;

use super::chunk::{Chunk, ChunkBuilder};
use super::connection::{self, Connection};
use super::event_result::{describe, notes, without_effect};
use super::known::unknown_environment;
use super::output::{print_json, print_notice, print_text};
use super::retry_for::{FOR_MANY_EVENTS, FOR_ONE_EVENT, RetryForArgs};
use super::spool::{Error, Outbox, SpoolFolder, count_events, parse_events};

/// Flags of what is printed about an event.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct ResultArgs {
    /// Print the service's response as JSON, one line per event
    #[arg(long)]
    json: bool,
    /// Print nothing about an event that is recorded
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Flags of commands that report something.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReportArgs {
    /// Exit with 1 if an event is spooled instead of recorded, or if it is recorded and changes nothing: it names no
    /// target and the service has several, the slot is empty, or the environment is retired
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    retry_for: RetryForArgs,
    #[command(flatten)]
    spool: SpoolFolder,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    connection: Connection,
}

impl ReportArgs {
    /// Sends one event: a report after everything in the spool, a command at once.
    ///
    /// # Errors
    /// The event is rejected, or neither recorded nor spooled.
    pub(super) async fn send(self, event: &Envelope) -> anyhow::Result<()> {
        let strict = self.strict;
        let mut session = self.session(true)?;
        session.send_one(event).await?;
        session.finish(strict)
    }

    /// Starts a session for one event or for many.
    ///
    /// # Errors
    /// The address of the ledger is invalid.
    pub(super) fn session(self, is_single: bool) -> anyhow::Result<EmitSession> {
        let client = self.connection.client()?;
        let retry_for = self.retry_for.or(if is_single { FOR_ONE_EVENT } else { FOR_MANY_EVENTS });
        Ok(EmitSession::new(Outbox::new(client, self.spool.folder(), retry_for), self.results, is_single))
    }

    /// Returns the connection, for a question that precedes the event.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns true if a spooled event is a failure.
    pub(super) const fn is_strict(&self) -> bool {
        self.strict
    }
}

/// Flags of commands that ask the ledger for something, which is decided at once and never spooled.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CommandArgs {
    #[command(flatten)]
    retry_for: RetryForArgs,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    connection: Connection,
}

impl CommandArgs {
    /// Sends an event at once.
    ///
    /// # Errors
    /// The address of the ledger is invalid, or the event is not recorded.
    pub(super) async fn send(self, event: &Envelope) -> anyhow::Result<()> {
        let no_spool = Err(anyhow!("commands are never spooled"));
        let outbox = Outbox::new(self.connection.client()?, no_spool, self.retry_for.or(FOR_ONE_EVENT));
        let mut session = EmitSession::new(outbox, self.results, true);
        session.send_one(event).await?;
        session.finish(false)
    }

    /// Checks that the ledger knows an environment, as far as the sender may ask.
    ///
    /// # Errors
    /// No event names the environment, or the address of the ledger is invalid.
    pub(super) async fn check_known(&self, environment: &EnvironmentName) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        match unknown_environment(&client, environment).await {
            Some(unknown) => bail!("{unknown}; if it is new, add --new"),
            None => Ok(()),
        }
    }

    /// Checks that the ledger knows an environment of which the event ends something, as far as the sender may ask.
    ///
    /// # Errors
    /// No event names the environment, or the address of the ledger is invalid.
    pub(super) async fn check_exists(&self, environment: &EnvironmentName) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        match unknown_environment(&client, environment).await {
            Some(unknown) => bail!("{unknown}"),
            None => Ok(()),
        }
    }

    /// Returns the connection, for a question that precedes the event.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Returns true if the event asks the ledger for something or takes something back. The ledger decides such
/// an event by its current state: sent hours later from the spool, it would do what its author no longer
/// wants.
fn is_command(payload: &Payload) -> bool {
    let is_revocation =
        payload.kind().family() == Family::Artifact && !matches!(payload, Payload::ArtifactBuilt(_));
    let is_retirement = matches!(payload, Payload::EnvironmentRetired(_));
    is_revocation || is_retirement || payload.is_command()
}

/// Returns true if the request certainly had no effect.
fn is_unsent(error: &Error) -> bool {
    match error {
        Error::Ledger(connection::Error::Unreachable { .. } | connection::Error::Setup(_)) | Error::Busy => {
            true
        }
        Error::Ledger(error) => error.is_about_credentials(),
        _ => false,
    }
}

/// Returns how to send an event again: unchanged, so that the ledger records it once. Another event with the same id would
/// be a conflict.
fn how_to_send_again(event: &Envelope) -> String {
    let event = String::from_utf8_lossy(event.bytes()).replace('\'', r"'\''");
    format!("send it again, and it is recorded only once: echo '{event}' | release-ledger emit -")
}

/// Sends events, and counts what became of them.
pub(super) struct EmitSession {
    outbox: Outbox,
    results: ResultArgs,
    /// Exactly one event is sent: only the returned error reports its failure.
    is_single: bool,
    events: u64,
    failed: u64,
    /// The number of the first event that failed, and the reason.
    first_failure: Option<(u64, String)>,
    spooled: usize,
    /// The reason why the first event was spooled.
    spool_cause: Option<Error>,
    /// The reason why a recorded event changed nothing, for the first such one.
    without_effect: Option<String>,
}

impl EmitSession {
    const fn new(outbox: Outbox, results: ResultArgs, is_single: bool) -> Self {
        Self {
            outbox,
            results,
            is_single,
            events: 0,
            failed: 0,
            first_failure: None,
            spooled: 0,
            spool_cause: None,
            without_effect: None,
        }
    }

    /// Sends one event: a report after everything in the spool, a command at once.
    pub(super) async fn send_one(&mut self, event: &Envelope) -> anyhow::Result<()> {
        let mut builder = ChunkBuilder::default();
        builder.push(1, event.bytes());
        let Some(chunk) = builder.take() else { return Ok(()) };
        if is_command(&event.event().payload) {
            self.send_command(&chunk, event).await
        } else {
            self.send(&chunk).await
        }
    }

    pub(super) async fn send(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        // Keep the order: spool it behind the earlier events.
        if self.spool_cause.is_some() {
            return self.spool(chunk, |_| true).await;
        }
        let (results, body) = match self.outbox.send(chunk).await {
            Ok(sent) => sent,
            Err(error) if error.may_be_recorded_later() => {
                self.spool_cause = Some(error);
                return self.spool(chunk, |_| true).await;
            }
            Err(error) => return Err(error.into()),
        };
        self.print_results(chunk, &results, &body)?;
        match results.iter().find(|result| result.status == EventStatus::Refused) {
            Some(refused) => {
                self.spool_cause = Some(Error::RefusedForNow(Box::new(refused.clone())));
                self.spool(chunk, |index| results[index].status == EventStatus::Refused).await
            }
            None => Ok(()),
        }
    }

    /// Sends a command at once, ahead of the spool; never spools it.
    async fn send_command(&mut self, chunk: &Chunk, event: &Envelope) -> anyhow::Result<()> {
        let kind = event.event().payload.kind().name();
        let (results, body) = self.outbox.send_directly(chunk).await.map_err(|error| {
            if !error.may_be_recorded_later() {
                return error.into();
            }
            let is_unsent = is_unsent(&error);
            let error = anyhow::Error::from(error);
            if is_unsent {
                return error.context(format!("{kind} is not recorded, and commands are never spooled"));
            }
            error.context(format!(
                "{kind} may or may not be recorded, and commands are never spooled; {}",
                how_to_send_again(event)
            ))
        })?;
        self.print_results(chunk, &results, &body)?;
        match results.iter().find(|result| result.status == EventStatus::Refused) {
            Some(refused) => {
                bail!("{kind} is not recorded, and commands are never spooled: {}", describe(refused))
            }
            None => Ok(()),
        }
    }

    /// Prints the result of each event, except of those that the ledger refuses for now.
    fn print_results(&mut self, chunk: &Chunk, results: &[EventResult], body: &[u8]) -> anyhow::Result<()> {
        let (mut text, mut notices) = (String::new(), Vec::new());
        for (number, result) in chunk.numbers().iter().zip(results) {
            if result.status == EventStatus::Refused {
                continue;
            }
            self.events += 1;
            if result.status.is_recorded() {
                if !self.results.quiet {
                    text.push_str(&format!("{}\n", describe(result)));
                }
                let position = result.position.unwrap_or_default();
                let AnnotationsBody { anomalies, new, targets, went_live, .. } = &result.annotations;
                let (anomalies, new) = (anomalies.as_deref(), new.as_deref());
                let notes =
                    notes(anomalies.unwrap_or_default(), new.unwrap_or_default(), targets).into_iter();
                notices.extend(notes.map(|note| format!("position {position}: {note}")));
                if self.without_effect.is_none() {
                    let reason = without_effect(anomalies.unwrap_or_default(), targets);
                    self.without_effect =
                        reason.map(|reason| format!("recorded at position {position}, but {reason}"));
                }
                if self.is_single
                    && let Some(version) = went_live
                {
                    notices.push(format!("position {position}: {version} is live"));
                }
            } else {
                self.fail(*number, describe(result), &mut text);
            }
        }
        if self.results.json {
            print_json(body)?;
        } else if !text.is_empty() {
            print_text(&text)?;
        }
        if !self.results.quiet {
            notices.iter().for_each(|notice| print_notice(notice));
        }
        Ok(())
    }

    fn fail(&mut self, number: u64, reason: String, text: &mut String) {
        self.failed += 1;
        if !self.is_single {
            text.push_str(&format!("not recorded: {reason}\n"));
        }
        self.first_failure.get_or_insert((number, reason));
    }

    /// Spools the selected events of a chunk that are reports; those that are commands fail.
    async fn spool(&mut self, chunk: &Chunk, is_selected: impl Fn(usize) -> bool) -> anyhow::Result<()> {
        let (mut events, mut commands) = (Vec::new(), Vec::new());
        let mut text = String::new();
        for (index, (number, event)) in chunk.numbers().iter().zip(parse_events(chunk)).enumerate() {
            if !is_selected(index) {
                continue;
            }
            self.events += 1;
            match event {
                Ok(event) if is_command(&event.event().payload) => {
                    let kind = event.event().payload.kind().name();
                    let cause =
                        self.spool_cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
                    let reason = format!("{kind} is a command, and commands are never spooled{cause}");
                    self.fail(*number, reason, &mut text);
                    commands.push(event);
                }
                Ok(event) => events.push(event),
                Err(reason) => self.fail(*number, reason, &mut text),
            }
        }
        if !events.is_empty()
            && let Err(error) = self.outbox.spool(&events).await
        {
            return Err(self.lost(&error, &events));
        }
        self.spooled += events.len();
        if self.results.json {
            let events = events.iter().map(|event| (event, "spooled"));
            for (event, status) in events.chain(commands.iter().map(|event| (event, "not_sent"))) {
                let identity = event.identity();
                let (id, source) = (identity.id.as_str(), identity.source.as_str());
                print_json(json!({"id": id, "source": source, "status": status}).to_string().as_bytes())?;
            }
        } else if !text.is_empty() {
            print_text(&text)?;
        }
        Ok(())
    }

    /// Returns the error for events that are neither sent nor spooled. After a request that failed half-way,
    /// an event may be recorded all the same: the error names its id.
    fn lost(&mut self, spool_error: &anyhow::Error, events: &[Envelope]) -> anyhow::Error {
        let Some(cause) = self.spool_cause.take() else {
            return anyhow!("cannot spool events: {spool_error:#}");
        };
        let is_unsent = is_unsent(&cause);
        let error = anyhow::Error::from(cause);
        let error = match events {
            [event] if self.is_single && !is_unsent => {
                error.context(format!("the event may or may not be recorded; {}", how_to_send_again(event)))
            }
            _ => error,
        };
        error.context(format!("neither sent nor spooled ({spool_error:#})"))
    }

    /// Prints how many events are spooled, and why.
    pub(super) fn print_spooled(&mut self) {
        if self.spooled > 0
            && let Some(cause) = self.spool_cause.take()
        {
            let events = count_events(self.spooled);
            let (folder, cause) = (self.outbox.spool_folder(), anyhow::Error::from(cause));
            print_notice(&format!(
                "spooled: {events} in {folder}; the next report, or `release-ledger spool send`, sends them first: \
                 {cause:#}"
            ));
        }
    }

    pub(super) fn finish(mut self, strict: bool) -> anyhow::Result<()> {
        self.print_spooled();
        match self.first_failure {
            None if self.events == 0 => bail!("no event on stdin"),
            None if strict && self.spooled > 0 => {
                bail!("{} spooled and not yet recorded", count_events(self.spooled))
            }
            None => match self.without_effect {
                Some(reason) if strict => bail!("{reason}"),
                _ => Ok(()),
            },
            Some((_, reason)) if self.events == 1 => bail!("{reason}"),
            Some((number, reason)) => bail!(
                "{} of {} events are not recorded, the first is event {number}: {reason}",
                self.failed,
                self.events
            ),
        }
    }
}

#[cfg(test)]
mod tests;
