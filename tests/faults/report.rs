//! The output of a run: a line for each fault as it begins, and a table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::plan::{ScheduledFault, Stint};

/// Counters of a run.
pub(crate) struct Report {
    began: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    faults: BTreeMap<String, u64>,
    skipped: BTreeMap<String, String>,
    events: BTreeMap<&'static str, u64>,
    temporary_failures: BTreeMap<String, u64>,
    notes: BTreeMap<String, u64>,
    longest_silence: Duration,
}

impl Report {
    /// Creates the report of a run that begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().expect("no thread panics while it holds the lock")
    }

    /// Prints a line with the time since the start of the run.
    pub(crate) fn print(&self, line: &str) {
        println!("{:8.2} s  {line}", self.began.elapsed().as_secs_f64());
    }

    /// Prints the start of a stint.
    pub(crate) fn stint(&self, stint: &Stint) {
        let (number, rounds) = (stint.number, stint.rounds.len());
        let (topology, window) = (stint.topology, stint.duplicate_window_seconds);
        self.print(&format!("stint {number}: {topology}, {rounds} rounds, duplicate window of {window} s"));
    }

    /// Prints and counts a fault that began.
    pub(crate) fn fault(&self, scheduled: &ScheduledFault) {
        *self.counts().faults.entry(scheduled.fault.kind()).or_default() += 1;
        let seconds = scheduled.duration.as_secs_f64();
        let duration =
            if scheduled.duration.is_zero() { String::new() } else { format!(", for {seconds:.2} s") };
        self.print(&format!("  {}{duration}", scheduled.fault));
    }

    /// Counts irregularities of the load as faults of the sender.
    pub(crate) fn irregularities(&self, irregularities: &[&str]) {
        let mut counts = self.counts();
        for irregularity in irregularities {
            *counts.faults.entry(format!("sender: {irregularity}")).or_default() += 1;
        }
    }

    /// Prints and lists a kind of fault that is impossible on this machine.
    pub(crate) fn skipped(&self, kind: &str, reason: &str) {
        self.print(&format!("  skipped: {kind}: {reason}"));
        self.counts().skipped.insert(kind.to_owned(), reason.to_owned());
    }

    /// Prints and counts an event that is worth noting and no violation. The text up to the first colon is its kind.
    pub(crate) fn note(&self, note: String) {
        self.print(&format!("  {note}"));
        let kind = note.split(':').next().unwrap_or_default().to_owned();
        *self.counts().notes.entry(kind).or_default() += 1;
    }

    /// Adds a number to a counter.
    pub(crate) fn count(&self, counter: &'static str, number: u64) {
        *self.counts().events.entry(counter).or_default() += number;
    }

    /// Raises a counter to a number, if it is lower.
    pub(crate) fn maximum(&self, counter: &'static str, number: u64) {
        let mut counts = self.counts();
        let maximum = counts.events.entry(counter).or_default();
        *maximum = number.max(*maximum);
    }

    /// Counts requests that may be repeated, by the response's problem or the reason for its absence.
    pub(crate) fn temporary_failure(&self, problem: &str, number: u64) {
        *self.counts().temporary_failures.entry(problem.to_owned()).or_default() += number;
    }

    /// Notes a time without an acknowledged event.
    pub(crate) fn silence(&self, lasted: Duration) {
        let mut counts = self.counts();
        counts.longest_silence = counts.longest_silence.max(lasted);
    }

    /// Returns the table of all counters.
    pub(crate) fn table(&self) -> String {
        let counts = self.counts();
        let mut table = String::new();
        let mut section = |title: &str, rows: Vec<(&str, String)>| {
            if !rows.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(table, "{title}");
                for (name, value) in rows {
                    let _ = writeln!(table, "  {name:<60} {value:>10}");
                }
            }
        };
        let numbers = |of: &BTreeMap<String, u64>| -> Vec<(String, String)> {
            of.iter().map(|(name, number)| (name.clone(), number.to_string())).collect()
        };
        for (title, of) in [
            ("faults", &counts.faults),
            ("temporary failures, by problem", &counts.temporary_failures),
            ("notes", &counts.notes),
        ] {
            let rows = numbers(of);
            section(title, rows.iter().map(|(name, number)| (name.as_str(), number.clone())).collect());
        }
        section("counters", counts.events.iter().map(|(name, number)| (*name, number.to_string())).collect());
        section(
            "skipped",
            counts.skipped.iter().map(|(kind, reason)| (kind.as_str(), reason.clone())).collect(),
        );
        let silence = format!("{:.1} s", counts.longest_silence.as_secs_f64());
        section(
            "time",
            vec![
                ("total", format!("{:.0} s", self.began.elapsed().as_secs_f64())),
                ("longest time under load without an acknowledged event", silence),
            ],
        );
        table
    }
}
