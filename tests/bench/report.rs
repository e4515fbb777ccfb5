//! The results as a table and as JSON.

use serde_json::{Value, json};

/// Results, in the order of their measurement.
#[derive(Default)]
pub(crate) struct Report {
    measurements: Vec<Measurement>,
}

struct Measurement {
    name: String,
    unit: &'static str,
    /// The same work without the ledger, or a limit.
    baseline: f64,
    value: f64,
    /// True if a higher value is better.
    higher_is_better: bool,
    /// Bound of the ratio of the value to the baseline.
    goal: Option<f64>,
}

impl Measurement {
    fn ratio(&self) -> f64 {
        self.value / self.baseline
    }

    fn is_goal_reached(&self) -> Option<bool> {
        self.goal.map(|goal| if self.higher_is_better { self.ratio() >= goal } else { self.ratio() <= goal })
    }
}

impl Report {
    /// Adds a rate per second. The goal is the minimum ratio to the baseline.
    pub(crate) fn rate(&mut self, name: &str, baseline: f64, value: f64, goal: Option<f64>) {
        let name = name.to_owned();
        self.add(Measurement { name, unit: "/s", baseline, value, higher_is_better: true, goal });
    }

    /// Adds a time in milliseconds. The goal is the maximum ratio to the baseline.
    pub(crate) fn time(&mut self, name: &str, baseline: f64, value: f64, goal: Option<f64>) {
        let name = name.to_owned();
        self.add(Measurement { name, unit: "ms", baseline, value, higher_is_better: false, goal });
    }

    /// Adds a size in MiB. The goal is to stay within the limit.
    pub(crate) fn size(&mut self, name: &str, limit: f64, value: f64) {
        let (name, goal) = (name.to_owned(), Some(1.0));
        self.add(Measurement { name, unit: "MiB", baseline: limit, value, higher_is_better: false, goal });
    }

    fn add(&mut self, measurement: Measurement) {
        println!("measured: {}", measurement.name);
        self.measurements.push(measurement);
    }

    /// Prints the table, and writes the results as JSON to a file if one is given.
    pub(crate) fn show(&self, file: Option<&str>) {
        println!("\n{:<66} {:>12} {:>12} {:>7}  goal", "measurement", "floor", "ours", "ratio");
        for measurement in &self.measurements {
            let goal = match (measurement.goal, measurement.is_goal_reached()) {
                (Some(goal), Some(reached)) => {
                    let bound = if measurement.higher_is_better { "≥" } else { "≤" };
                    format!("{bound} {goal} {}", if reached { "reached" } else { "MISSED" })
                }
                _ => String::new(),
            };
            let Measurement { name, unit, baseline, value, .. } = measurement;
            let (baseline, value) = (figure(*baseline, unit), figure(*value, unit));
            println!("{name:<66} {baseline:>12} {value:>12} {:>7.2}  {goal}", measurement.ratio());
        }
        if let Some(file) = file {
            let measurements: Vec<Value> = self.measurements.iter().map(to_json).collect();
            let text = serde_json::to_string_pretty(&measurements).expect("serialize the results");
            std::fs::write(file, text + "\n").expect("write the results");
        }
    }
}

fn figure(value: f64, unit: &str) -> String {
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") }
}

fn to_json(measurement: &Measurement) -> Value {
    json!({
        "what": measurement.name,
        "unit": measurement.unit,
        "floor": measurement.baseline,
        "ours": measurement.value,
        "ratio": measurement.ratio(),
        "goal": measurement.goal,
        "reached": measurement.is_goal_reached(),
    })
}
