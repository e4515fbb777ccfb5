//! The delivery of events that were translated from the history of another tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use bytes::Bytes;
use ledger_adapters::translation::NativeEvent;
use ledger_codec::cloudevents::Envelope;
use serde_json::Value;

use super::DeliveryArgs;
use crate::connection::Connection;
use crate::delivery::{Delivery, DeliverySummary};
use crate::output::print_text;
use crate::progress::Progress;

/// Number of problems that are shown if nothing is recorded.
const MAX_SHOWN: usize = 20;

/// Flags of every import of the history of another tool.
#[derive(Debug, clap::Args)]
pub(super) struct TranslatedArgs {
    /// Record what can be translated, and list the rest on stderr
    #[arg(long)]
    skip_invalid: bool,
    /// Say what would be recorded, and record nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// A translated history.
#[derive(Default)]
pub(super) struct Translated {
    /// Unit of its numbers: `row`, `commit`.
    pub(super) unit: &'static str,
    /// The events in the order in which they are recorded, each with its number.
    pub(super) events: Vec<(u64, NativeEvent)>,
    /// Remarks about events that are recorded all the same.
    pub(super) notes: Vec<String>,
    /// Reasons why parts of the history cannot be translated.
    pub(super) problems: Vec<String>,
    /// Number of parts that mean nothing to the ledger.
    pub(super) ignored: usize,
}

impl TranslatedArgs {
    /// Reports the problems of a history, and records its events.
    ///
    /// # Errors
    /// A part cannot be translated, an event is rejected, or the service accepts none for too long.
    pub(super) async fn record(&self, history: Translated, skips_invalid: bool) -> anyhow::Result<()> {
        let skips_invalid = skips_invalid || self.skip_invalid;
        let Translated { unit, events, notes, mut problems, ignored } = history;
        let mut valid: Vec<(u64, Bytes)> = Vec::with_capacity(events.len());
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for (number, event) in events {
            let json = serde_json::to_vec(&event.0)?;
            match Envelope::parse(&json) {
                Ok(envelope) => {
                    *kinds.entry(envelope.event().payload.kind().to_string()).or_default() += 1;
                    valid.push((number, envelope.bytes().clone()));
                }
                Err(error) => {
                    let id = event.0.get("id").and_then(Value::as_str).unwrap_or_default();
                    problems.push(format!("{unit} {number}: the event {id} is not valid: {error}"));
                }
            }
        }
        let progress = Progress::of_events();
        notes.iter().for_each(|note| progress.line(note));
        let shown = if skips_invalid || self.dry_run { problems.len() } else { MAX_SHOWN };
        problems.iter().take(shown).for_each(|problem| progress.line(problem));
        if problems.len() > shown {
            progress.line(&format!("and {} more", problems.len() - shown));
        }
        if self.dry_run {
            progress.finish();
            return Ok(print_text(&plan(&kinds, problems.len(), ignored))?);
        }
        if !problems.is_empty() && !skips_invalid {
            bail!(
                "nothing is recorded: {}; --skip-invalid records the rest",
                counted(problems.len(), "problem")
            );
        }
        if valid.is_empty() {
            progress.line("nothing to record");
            progress.finish();
            return Ok(());
        }
        let client = self.connection.clone().client()?;
        let retry_for = self.delivery.retry_for();
        let delivery = Delivery { client: &client, unit, retry_for, progress, skips_rejected: false };
        let summary = delivery.deliver(valid.into_iter().map(Ok)).await?;
        let summary = DeliverySummary { skipped: Some(problems.len() as u64), ..summary };
        self.delivery.print(&summary, "events")
    }
}

/// Returns a number with its noun.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Describes what an import would record.
fn plan(kinds: &BTreeMap<String, usize>, problems: usize, ignored: usize) -> String {
    let total: usize = kinds.values().sum();
    let mut text = format!("{} would be recorded", counted(total, "event"));
    for (kind, count) in kinds {
        let _ = write!(text, "\n{count:>8}  {kind}");
    }
    if ignored > 0 {
        let _ = write!(text, "\n{ignored:>8}  ignored");
    }
    if problems > 0 {
        let _ = write!(text, "\n{problems:>8}  cannot be translated");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_the_events_of_each_kind_and_what_is_left_out() {
        let kinds = BTreeMap::from([("deploy.succeeded".to_owned(), 12), ("deploy.removed".to_owned(), 3)]);
        assert_eq!(
            plan(&kinds, 1, 2),
            "15 events would be recorded\n       3  deploy.removed\n      12  deploy.succeeded\n       2  ignored\n       1  \
             cannot be translated"
        );
    }
}
