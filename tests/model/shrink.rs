//! Runs histories, and drops what a difference does not need.

use std::time::{Duration, Instant};

use ledger_tests::Client;

use crate::compare::{Difference, compare};
use crate::driver::{Recorded, feed};
use crate::generate::Item;
use crate::lanes::Model;

/// Runs histories against one service, each under a tag of its own.
pub(crate) struct Trial<'c> {
    client: &'c Client,
    runs: u64,
}

/// What a run of a history found.
pub(crate) struct Found {
    pub(crate) entries: usize,
    pub(crate) differences: Vec<Difference>,
    recorded: Recorded,
}

impl<'c> Trial<'c> {
    pub(crate) const fn new(client: &'c Client) -> Self {
        Self { client, runs: 0 }
    }

    /// Feeds a history and compares the answers; with `only`, those that can differ in this kind.
    pub(crate) async fn differences(&mut self, items: &[Item], number: u64, only: Option<&str>) -> Found {
        self.runs += 1;
        let tag = format!("{:08x}", self.runs);
        let recorded = feed(self.client, items, &tag).await;
        let entries = recorded.entries.len();
        let model = Model::new(recorded.entries.clone());
        let differences = if entries == 0 {
            Vec::new()
        } else {
            compare(self.client, &recorded, &model, number, only).await
        };
        Found { entries, differences, recorded }
    }

    /// The smallest history found that has a difference of the same kind, as text.
    pub(crate) async fn shrunk(
        &mut self,
        items: Vec<Item>,
        difference: Difference,
        number: u64,
        at_most: Duration,
    ) -> String {
        let began = Instant::now();
        let mut items = items;
        let mut shown = (difference, None::<Recorded>);
        let mut size = items.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < items.len() && began.elapsed() < at_most {
                let mut fewer = items.clone();
                fewer.drain(from..items.len().min(from + size));
                let found = self.differences(&fewer, number, Some(&shown.0.kind)).await;
                let same = found.differences.into_iter().find(|other| other.kind == shown.0.kind);
                match same {
                    Some(same) => {
                        shown = (same, Some(found.recorded));
                        items = fewer;
                    }
                    None => from += size,
                }
            }
            size /= 2;
        }
        let lines: Vec<String> = items.iter().map(Item::line).collect();
        let (difference, recorded) = shown;
        let mut text = lines.join("\n");
        if let Some(recorded) = recorded {
            let positions = recorded.entries.iter().map(|entry| format!(" {} {}", entry.position, entry.id));
            text += &format!("\nrecorded as{}", positions.collect::<String>());
            let plain = |text: &str| text.replace(&recorded.tag, "~");
            text += &format!("\nquestion: {}", plain(&difference.question));
            text +=
                &format!("\nservice: {}\nmodel: {}", plain(&difference.service), plain(&difference.model));
        } else {
            text += &format!("\nquestion: {}", difference.question);
            text += &format!("\nservice: {}\nmodel: {}", difference.service, difference.model);
        }
        text
    }
}
