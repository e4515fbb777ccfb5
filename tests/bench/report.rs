//! A table for people, and the same as JSON.

use serde_json::{Value, json};

/// What was measured, line by line.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<ShortText>,
}

struct ShortText {
    what: String,
    unit: &'static str,
    floor: f64,
    ours: f64,
    /// Whether more is better; else less is.
    more: bool,
    goal: Option<f64>,
}

impl ShortText {
    fn ratio(&self) -> f64 {
        self.ours / self.floor
    }

    fn reached(&self) -> Option<bool> {
        self.goal.map(|goal| if self.more { self.ratio() >= goal } else { self.ratio() <= goal })
    }
}

impl Report {
    /// A rate of ours beside the floor's; the goal is the least ratio.
    pub(crate) fn rate(&mut self, what: &str, floor: f64, ours: f64, goal: Option<f64>) {
        self.add(ShortText { what: what.to_owned(), unit: "/s", floor, ours, more: true, goal });
    }

    /// A time of ours beside the floor's, in milliseconds; the goal is the greatest ratio.
    pub(crate) fn time(&mut self, what: &str, floor: f64, ours: f64, goal: Option<f64>) {
        self.add(ShortText { what: what.to_owned(), unit: "ms", floor, ours, more: false, goal });
    }

    /// A size of ours beside its limit, in MiB; the goal is to stay below.
    pub(crate) fn size(&mut self, what: &str, limit: f64, ours: f64) {
        self.add(ShortText {
            what: what.to_owned(),
            unit: "MiB",
            floor: limit,
            ours,
            more: false,
            goal: Some(1.0),
        });
    }

    fn add(&mut self, line: ShortText) {
        println!("measured: {}", line.what);
        self.lines.push(line);
    }

    /// Prints the table, and writes the JSON to a file if one is named.
    pub(crate) fn show(&self, file: Option<&str>) {
        println!("\n{:<66} {:>12} {:>12} {:>7}  goal", "what", "floor", "ours", "ratio");
        for line in &self.lines {
            let goal = match (line.goal, line.reached()) {
                (Some(goal), Some(reached)) => {
                    let bound = if line.more { "≥" } else { "≤" };
                    format!("{bound} {goal} {}", if reached { "reached" } else { "MISSED" })
                }
                _ => String::new(),
            };
            let (floor, ours) = (figure(line.floor, line.unit), figure(line.ours, line.unit));
            println!("{:<66} {floor:>12} {ours:>12} {:>7.2}  {goal}", line.what, line.ratio());
        }
        if let Some(file) = file {
            let lines: Vec<Value> = self.lines.iter().map(json_of).collect();
            let text = serde_json::to_string_pretty(&lines).expect("JSON");
            std::fs::write(file, text + "\n").expect("the report is written");
        }
    }
}

fn figure(value: f64, unit: &str) -> String {
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") }
}

fn json_of(line: &ShortText) -> Value {
    json!({
        "what": line.what,
        "unit": line.unit,
        "floor": line.floor,
        "ours": line.ours,
        "ratio": line.ratio(),
        "goal": line.goal,
        "reached": line.reached(),
    })
}
