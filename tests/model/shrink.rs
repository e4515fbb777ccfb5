//! Runs histories, and shrinks those with a difference.

use std::time::{Duration, Instant};

use ledger_tests::Client;

use crate::compare::{Difference, compare};
use crate::driver::{Recorded, record_history};
use crate::generate::Item;
use crate::lanes::Model;

/// Runs histories against one service, each with its own tag.
pub(crate) struct Runner<'c> {
    client: &'c Client,
    runs: u64,
}

/// Result of a run of a history.
pub(crate) struct RunResult {
    pub(crate) entries: usize,
    pub(crate) differences: Vec<Difference>,
    recorded: Recorded,
}

impl<'c> Runner<'c> {
    pub(crate) const fn new(client: &'c Client) -> Self {
        Self { client, runs: 0 }
    }

    /// Records a history and compares the responses of the service and the model; with `only`, just the queries that
    /// can show this kind of difference.
    pub(crate) async fn run(&mut self, items: &[Item], number: u64, only: Option<&str>) -> RunResult {
        self.runs += 1;
        let tag = format!("{:08x}", self.runs);
        let recorded = record_history(self.client, items, &tag).await;
        let entries = recorded.entries.len();
        let model = Model::new(recorded.entries.clone());
        let differences = if entries == 0 {
            Vec::new()
        } else {
            compare(self.client, &recorded, &model, number, only).await
        };
        RunResult { entries, differences, recorded }
    }

    /// Returns the smallest history found with a difference of the same kind, as text.
    pub(crate) async fn shrink(
        &mut self,
        items: Vec<Item>,
        difference: Difference,
        number: u64,
        time_limit: Duration,
    ) -> String {
        let began = Instant::now();
        let mut items = items;
        let mut smallest = (difference, None::<Recorded>);
        let mut size = items.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < items.len() && began.elapsed() < time_limit {
                let mut fewer = items.clone();
                fewer.drain(from..items.len().min(from + size));
                let result = self.run(&fewer, number, Some(&smallest.0.kind)).await;
                let same = result.differences.into_iter().find(|other| other.kind == smallest.0.kind);
                match same {
                    Some(same) => {
                        smallest = (same, Some(result.recorded));
                        items = fewer;
                    }
                    None => from += size,
                }
            }
            size /= 2;
        }
        let lines: Vec<String> = items.iter().map(Item::line).collect();
        let (difference, recorded) = smallest;
        let mut text = lines.join("\n");
        if let Some(recorded) = recorded {
            let positions = recorded.entries.iter().map(|entry| format!(" {} {}", entry.position, entry.id));
            text += &format!("\nrecorded as{}", positions.collect::<String>());
            let without_tag = |text: &str| text.replace(&recorded.tag, "~");
            text += &format!("\nquery: {}", without_tag(&difference.query));
            text += &format!(
                "\nservice: {}\nmodel: {}",
                without_tag(&difference.service),
                without_tag(&difference.model)
            );
        } else {
            text += &format!("\nquery: {}", difference.query);
            text += &format!("\nservice: {}\nmodel: {}", difference.service, difference.model);
        }
        text
    }
}
