//! The results as tables and as JSON.

use serde_json::{Map, Value, json};

use crate::compare::FORMAT;
use crate::conditions::load_average;
use crate::cpu::{Component, Cpu};

/// Results, in the order of their measurement.
pub(crate) struct Report {
    conditions: Value,
    measurements: Vec<Measurement>,
    costs: Vec<Cost>,
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

/// CPU time of a part of the benchmark.
pub(crate) struct Cost {
    /// Name of the part.
    pub(crate) name: String,
    /// Label of the measured program, or `floor`.
    pub(crate) program: &'static str,
    /// Time of each component for one event.
    pub(crate) per_event: Cpu,
    /// Maximum of the sum without the load generator, in microseconds.
    pub(crate) goal: Option<f64>,
}

impl Cost {
    fn is_goal_reached(&self) -> Option<bool> {
        self.goal.map(|goal| self.per_event.sum() <= goal)
    }
}

impl Report {
    /// Creates an empty report of a run under these conditions.
    pub(crate) fn new(conditions: Value) -> Self {
        Self { conditions, measurements: Vec::new(), costs: Vec::new() }
    }

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

    /// Adds the CPU time of an event, in microseconds, beside that of another program or of other settings. The goal is the
    /// maximum ratio to the baseline.
    pub(crate) fn cpu_beside(&mut self, name: &str, baseline: f64, value: f64, goal: Option<f64>) {
        let name = name.to_owned();
        self.add(Measurement { name, unit: "µs", baseline, value, higher_is_better: false, goal });
    }

    /// Adds the CPU time of a part.
    pub(crate) fn cost(&mut self, cost: Cost) {
        self.costs.push(cost);
    }

    fn add(&mut self, measurement: Measurement) {
        println!("measured: {}", measurement.name);
        self.measurements.push(measurement);
    }

    /// Prints the tables, and writes the results as JSON to a file if one is given.
    pub(crate) fn show(&self, file: Option<&str>) {
        self.show_measurements();
        if !self.costs.is_empty() {
            self.show_costs();
        }
        if let Some(file) = file {
            let text = serde_json::to_string_pretty(&self.to_json()).expect("serialize the results");
            std::fs::write(file, text + "\n").expect("write the results");
        }
    }

    fn show_measurements(&self) {
        println!("\n{:<66} {:>12} {:>12} {:>7}  goal", "measurement", "floor", "ours", "ratio");
        for measurement in &self.measurements {
            let bound = if measurement.higher_is_better { "≥" } else { "≤" };
            let goal = goal(bound, measurement.goal, measurement.is_goal_reached());
            let Measurement { name, unit, baseline, value, .. } = measurement;
            let (baseline, value) = (figure(*baseline, unit), figure(*value, unit));
            println!("{name:<66} {baseline:>12} {value:>12} {:>7.2}  {goal}", measurement.ratio());
        }
    }

    fn show_costs(&self) {
        let names: String =
            Component::ALL.iter().map(|component| format!(" {:>13}", component.name())).collect();
        println!(
            "\n{:<58} {:<8}{names} {:>9}  goal",
            "CPU, µs an event (sum without load)", "program", "sum"
        );
        for cost in &self.costs {
            let times = Component::ALL.iter().map(|component| cost.per_event.of(*component));
            let times: String = times.map(|time| format!(" {time:>13.1}")).collect();
            let goal = goal("≤", cost.goal, cost.is_goal_reached());
            let (name, program, sum) = (&cost.name, cost.program, cost.per_event.sum());
            println!("{name:<58} {program:<8}{times} {sum:>9.1}  {goal}");
        }
    }

    fn to_json(&self) -> Value {
        let mut conditions = self.conditions.clone();
        conditions["load_average_at_end"] = load_average().into();
        json!({
            "format": FORMAT,
            "conditions": conditions,
            "measurements": self.measurements.iter().map(measurement_to_json).collect::<Vec<_>>(),
            "cpu": self.costs.iter().map(cost_to_json).collect::<Vec<_>>(),
        })
    }
}

fn goal(bound: &str, goal: Option<f64>, is_reached: Option<bool>) -> String {
    match (goal, is_reached) {
        (Some(goal), Some(true)) => format!("{bound} {goal} reached"),
        (Some(goal), Some(false)) => format!("{bound} {goal} MISSED"),
        _ => String::new(),
    }
}

fn figure(value: f64, unit: &str) -> String {
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") }
}

fn measurement_to_json(measurement: &Measurement) -> Value {
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

fn cost_to_json(cost: &Cost) -> Value {
    let component =
        |component: &Component| (component.name().to_owned(), Value::from(cost.per_event.of(*component)));
    json!({
        "what": cost.name,
        "program": cost.program,
        "unit": "µs/event",
        "sum": cost.per_event.sum(),
        "components": Component::ALL.iter().map(component).collect::<Map<_, _>>(),
        "goal": cost.goal,
        "reached": cost.is_goal_reached(),
    })
}
