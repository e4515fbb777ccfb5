//! What a run tells: a line for each fault while it goes on, and a table at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::plan::{Stint, Timed};

/// What happened in a run so far.
pub(crate) struct Report {
    began: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    faults: BTreeMap<String, u64>,
    not_run: BTreeMap<String, String>,
    events: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<String, u64>,
    noted: BTreeMap<String, u64>,
    longest_silence: Duration,
}

impl Report {
    /// Of a run that begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panicked while counting")
    }

    /// Says a line, with the time of the run.
    pub(crate) fn say(&self, what: &str) {
        println!("{:8.2} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// A stint begins.
    pub(crate) fn stint(&self, stint: &Stint) {
        let (number, rounds) = (stint.number, stint.rounds.len());
        self.say(&format!("stint {number}: {}, {rounds} rounds, {} s of memory", stint.stand, stint.memory));
    }

    /// A fault was done.
    pub(crate) fn fault(&self, timed: &Timed) {
        *self.counts().faults.entry(timed.fault.kind()).or_default() += 1;
        let lasts = timed.lasts.as_secs_f64();
        let lasts = if timed.lasts.is_zero() { String::new() } else { format!(", for {lasts:.2} s") };
        self.say(&format!("  {}{lasts}", timed.fault));
    }

    /// Senders did this.
    pub(crate) fn odd(&self, what: &[&str]) {
        let mut counts = self.counts();
        for what in what {
            *counts.faults.entry(format!("sender: {what}")).or_default() += 1;
        }
    }

    /// A kind of fault could not be done here.
    pub(crate) fn not_run(&self, kind: &str, why: &str) {
        self.say(&format!("  not run: {kind}: {why}"));
        self.counts().not_run.insert(kind.to_owned(), why.to_owned());
    }

    /// Something happened that is no violation and that one wants to know of.
    pub(crate) fn note(&self, what: String) {
        self.say(&format!("  {what}"));
        let short = what.split(':').next().unwrap_or_default().to_owned();
        *self.counts().noted.entry(short).or_default() += 1;
    }

    /// So many of something were counted.
    pub(crate) fn count(&self, what: &'static str, number: u64) {
        *self.counts().events.entry(what).or_default() += number;
    }

    /// So many of something were there; the most of it is told.
    pub(crate) fn most(&self, what: &'static str, number: u64) {
        let mut counts = self.counts();
        let most = counts.events.entry(what).or_default();
        *most = number.max(*most);
    }

    /// Events were refused for now, with this problem or none.
    pub(crate) fn refused(&self, problem: &str, number: u64) {
        *self.counts().refusals.entry(problem.to_owned()).or_default() += number;
    }

    /// No event was acknowledged for so long.
    pub(crate) fn silence(&self, lasted: Duration) {
        let mut counts = self.counts();
        counts.longest_silence = counts.longest_silence.max(lasted);
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let counts = self.counts();
        let mut table = String::new();
        let mut part = |title: &str, rows: Vec<(&str, String)>| {
            if !rows.is_empty() {
                // Writing to a text does not fail.
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
            ("refused for now, by problem", &counts.refusals),
            ("seen", &counts.noted),
        ] {
            let rows = numbers(of);
            part(title, rows.iter().map(|(name, number)| (name.as_str(), number.clone())).collect());
        }
        part("counted", counts.events.iter().map(|(name, number)| (*name, number.to_string())).collect());
        part("not run", counts.not_run.iter().map(|(name, why)| (name.as_str(), why.clone())).collect());
        let silence = format!("{:.1} s", counts.longest_silence.as_secs_f64());
        part(
            "time",
            vec![
                ("all", format!("{:.0} s", self.began.elapsed().as_secs_f64())),
                ("longest without an acknowledged event, while under load", silence),
            ],
        );
        table
    }
}
