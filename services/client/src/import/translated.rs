//! The delivery of events that were translated from the history of another tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use bytes::Bytes;
use ledger_adapters::translation::NativeEvent;
use ledger_codec::cloudevents::{Envelope, TIME_OF_ARRIVAL};
use serde::Serialize;
use serde_json::Value;

use super::DeliveryArgs;
use crate::connection::Connection;
use crate::delivery::{Delivery, DeliverySummary};
use crate::output::print_json_or_text;
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
        for (number, mut event) in events {
            // Only the ledger itself may write it.
            event.0.remove(TIME_OF_ARRIVAL);
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
            let plan = Plan::new(kinds, problems.len(), ignored);
            let is_json = self.delivery.json;
            let text = if is_json { serde_json::to_string(&plan)? } else { plan.render() };
            return Ok(print_json_or_text(is_json, &text)?);
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
            if self.delivery.json {
                self.delivery.print(&nothing(problems.len()), "events")?;
            }
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

/// Returns the summary of an import without events.
const fn nothing(skipped: usize) -> DeliverySummary {
    DeliverySummary {
        rows: 0,
        recorded: 0,
        duplicates: 0,
        position: None,
        skipped: Some(skipped as u64),
        seconds: 0.0,
        out_of_order: 0,
    }
}

/// Content of an import that a dry run prints.
#[derive(Debug, Serialize)]
struct Plan {
    /// Number of events.
    events: usize,
    /// Number of events of each kind.
    kinds: BTreeMap<String, usize>,
    /// Number of parts that mean nothing to the ledger.
    ignored: usize,
    /// Number of parts that cannot be translated.
    problems: usize,
}

impl Plan {
    fn new(kinds: BTreeMap<String, usize>, problems: usize, ignored: usize) -> Self {
        Self { events: kinds.values().sum(), kinds, ignored, problems }
    }

    /// Returns the plan as text.
    fn render(&self) -> String {
        let mut text = format!("{} would be recorded", counted(self.events, "event"));
        for (kind, count) in &self.kinds {
            let _ = write!(text, "\n{count:>8}  {kind}");
        }
        if self.ignored > 0 {
            let _ = write!(text, "\n{:>8}  ignored", self.ignored);
        }
        if self.problems > 0 {
            let _ = write!(text, "\n{:>8}  cannot be translated", self.problems);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let kinds = BTreeMap::from([("deploy.succeeded".to_owned(), 12), ("deploy.removed".to_owned(), 3)]);
        Plan::new(kinds, 1, 2)
    }

    #[test]
    fn a_plan_as_json_has_the_same_numbers() {
        assert_eq!(
            serde_json::to_value(plan()).expect("JSON"),
            serde_json::json!({
                "events": 15,
                "kinds": { "deploy.removed": 3, "deploy.succeeded": 12 },
                "ignored": 2,
                "problems": 1,
            })
        );
    }

    #[test]
    fn an_import_without_events_has_the_summary_of_every_import() {
        assert_eq!(
            serde_json::to_value(nothing(2)).expect("JSON"),
            serde_json::json!({
                "rows": 0, "recorded": 0, "duplicates": 0, "position": null, "skipped": 2, "seconds": 0.0
            })
        );
    }

    #[test]
    fn a_plan_counts_the_events_of_each_kind_and_what_is_left_out() {
        assert_eq!(
            plan().render(),
            "15 events would be recorded\n       3  deploy.removed\n      12  deploy.succeeded\n       2  ignored\n       1  \
             cannot be translated"
        );
    }
}
