//! The result of translating an exported history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use ledger_domain::parse_time;
use serde_json::Value;

use crate::translation::{NativeEvent, NotUnderstood, Translation};

/// The events of an exported history, and what was not translated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// The events in order of time; those of the same time in the order of rows.
    pub events: Vec<ImportedEvent>,
    /// Rows that are understood, and for which nothing is recorded, with the reason.
    pub ignored: Vec<RowNote>,
    /// Rows that cannot be translated, with the reason.
    pub problems: Vec<RowNote>,
    /// Number of events that rows repeat: equal to an event of an earlier row.
    pub repeated: u64,
}

/// An event and the row that it was translated from.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEvent {
    /// The number of the row: of the line for CSV, else of the item in the file, from 1.
    pub row: u64,
    /// The event.
    pub event: NativeEvent,
}

/// A note about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowNote {
    /// The number of the row, as in [`ImportedEvent::row`].
    pub row: u64,
    /// The note.
    pub detail: String,
}

/// Collects the translations of rows.
#[derive(Debug, Default)]
pub(super) struct Collector {
    imported: Imported,
    /// The row and the content of the event of each identity.
    identities: HashMap<(String, String), (u64, Value)>,
}

impl Collector {
    /// Adds the translation of a row.
    pub(super) fn add(&mut self, row: u64, translation: Result<Translation, NotUnderstood>) {
        match translation {
            Ok(Translation::Events(events)) => {
                for event in events {
                    self.add_event(row, event);
                }
            }
            Ok(Translation::Ignored(reason)) => self.ignore(row, reason),
            Ok(Translation::Partial(part)) => {
                for event in part.events {
                    self.add_event(row, event);
                }
                self.problem(row, part.fault.to_string());
            }
            Err(fault) => self.problem(row, fault.to_string()),
        }
    }

    /// Adds a note about a row that is ignored.
    pub(super) fn ignore(&mut self, row: u64, detail: impl Into<String>) {
        self.imported.ignored.push(RowNote { row, detail: detail.into() });
    }

    /// Adds a note about a row that cannot be translated.
    pub(super) fn problem(&mut self, row: u64, detail: impl Into<String>) {
        self.imported.problems.push(RowNote { row, detail: detail.into() });
    }

    fn add_event(&mut self, row: u64, event: NativeEvent) {
        let identity = (text(&event, "source").to_owned(), text(&event, "id").to_owned());
        let content = Value::Object(event.0.clone());
        match self.identities.entry(identity) {
            Entry::Vacant(entry) => {
                entry.insert((row, content));
                self.imported.events.push(ImportedEvent { row, event });
            }
            Entry::Occupied(entry) if entry.get().1 == content => self.imported.repeated += 1,
            Entry::Occupied(entry) => {
                let first = entry.get().0;
                let detail = format!("row {first} is the same event with another content: keep one of them");
                self.problem(row, detail);
            }
        }
    }

    /// Returns the result: events in order of time, notes in order of rows.
    pub(super) fn finish(self) -> Imported {
        let mut imported = self.imported;
        imported.events.sort_by_key(|imported| time(&imported.event));
        imported.ignored.sort_by_key(|note| note.row);
        imported.problems.sort_by_key(|note| note.row);
        imported
    }
}

fn text<'e>(event: &'e NativeEvent, attribute: &str) -> &'e str {
    event.0.get(attribute).and_then(Value::as_str).unwrap_or_default()
}

fn time(event: &NativeEvent) -> Option<DateTime<Utc>> {
    parse_time(text(event, "time")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, time: &str, version: &str) -> Result<Translation, NotUnderstood> {
        let Value::Object(event) =
            json!({ "source": "s", "id": id, "time": time, "data": { "version": version } })
        else {
            return Err(NotUnderstood::new("", "no object"));
        };
        Ok(Translation::Events(vec![NativeEvent(event)]))
    }

    #[test]
    fn equal_events_are_one_and_a_contradiction_is_a_problem() {
        let mut collector = Collector::default();
        collector.add(1, event("a", "2026-08-01T12:00:00Z", "v1"));
        collector.add(2, event("b", "2026-08-01T11:00:00Z", "v1"));
        collector.add(3, event("a", "2026-08-01T12:00:00Z", "v1"));
        collector.add(4, event("a", "2026-08-01T12:00:00Z", "v2"));
        collector.add(5, Err(NotUnderstood::new("/x", "is missing")));
        collector.add(6, Ok(Translation::Ignored("not a deploy".to_owned())));
        let imported = collector.finish();
        assert_eq!(imported.events.iter().map(|event| event.row).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(imported.repeated, 1);
        let problems: Vec<_> =
            imported.problems.iter().map(|note| (note.row, note.detail.as_str())).collect();
        assert_eq!(
            problems,
            [(4, "row 1 is the same event with another content: keep one of them"), (5, "/x: is missing")]
        );
        assert_eq!(imported.ignored.len(), 1);
    }
}
