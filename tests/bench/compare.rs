//! The figures of several runs beside each other, from the files that `--json` wrote.
//!
//! A run on another machine, with other servers or of another size is shown and marked: its figures say nothing beside
//! those of the last run.

use std::fmt::Write as _;

use serde_json::Value;

/// Format of the files. It changes when figures of the same name mean something else.
pub(crate) const FORMAT: &str = "release-ledger-bench-2";
/// Conditions that must be the same in all runs: member of the file, and name in messages.
const SAME: [(&str, &str); 5] = [
    ("processor", "processor"),
    ("cores", "number of cores"),
    ("nats", "nats-server"),
    ("postgres", "Postgres"),
    ("size", "size of the run"),
];
/// Width of the names of figures, in characters.
const NAME_WIDTH: usize = 84;

/// A run, as read from its file.
pub(crate) struct Run {
    conditions: Value,
    /// Names with units, and values, in the order of the file.
    figures: Vec<(String, f64)>,
}

impl Run {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The text is not a report in the format [`FORMAT`].
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file["format"] != FORMAT {
            return Err(format!("not a report in the format {FORMAT}; measure again with ops/bench --json"));
        }
        let mut figures = Vec::new();
        for measurement in list(&file, "measurements")? {
            let what = text_of(measurement, "what")?;
            // A limit of memory may change, the memory itself is the figure.
            figures.push(match text_of(measurement, "unit")? {
                "MiB" => (format!("{what} [MiB]"), number_of(measurement, "ours")?),
                _ => (format!("{what} [ratio]"), number_of(measurement, "ratio")?),
            });
        }
        for cost in list(&file, "cpu")? {
            let (what, program) = (text_of(cost, "what")?, text_of(cost, "program")?);
            figures.push((format!("CPU, {what}, {program} [µs/event]"), number_of(cost, "sum")?));
        }
        Ok(Self { conditions: file["conditions"].take(), figures })
    }

    fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn condition(&self, member: &str) -> String {
        match &self.conditions[member] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Returns the conditions that differ from those of another run.
    fn differences(&self, other: &Self) -> Vec<String> {
        let differing =
            SAME.iter().filter(|(member, _)| self.conditions[*member] != other.conditions[*member]);
        differing
            .map(|(member, name)| {
                format!("{name}: {} instead of {}", self.condition(member), other.condition(member))
            })
            .collect()
    }
}

/// Reads the files and returns their table.
///
/// # Errors
/// A file cannot be read, or is not a report.
pub(crate) fn compare(files: &[&str]) -> Result<String, String> {
    let read = |file: &&str| {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        text.and_then(|text| Run::parse(&text)).map_err(|error| format!("cannot read {file}: {error}"))
    };
    let runs = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(table(&runs))
}

/// Returns a table with a column for each run, and below it why a run cannot be compared with the last one.
pub(crate) fn table(runs: &[Run]) -> String {
    let Some(last) = runs.last() else { return String::new() };
    let differences: Vec<Vec<String>> = runs.iter().map(|run| run.differences(last)).collect();
    let mut text = String::new();
    for (name, member) in [("commit", "commit"), ("date", "date"), ("load average", "load_average")] {
        let cells = runs.iter().map(|run| run.condition(member)).collect();
        add_row(&mut text, name, cells);
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.figures) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        let cells = runs.iter().zip(&differences).map(|(run, differences)| {
            let mark = if differences.is_empty() { "" } else { "*" };
            run.figure(name).map_or_else(|| "-".to_owned(), |value| format!("{mark}{value:.2}"))
        });
        add_row(&mut text, name, cells.collect());
    }
    for (run, differences) in runs.iter().zip(&differences).filter(|(_, differences)| !differences.is_empty())
    {
        let (commit, date, differences) =
            (run.condition("commit"), run.condition("date"), differences.join(", "));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "* {commit} {date} cannot be compared with the last run: {differences}");
    }
    text
}

fn add_row(text: &mut String, name: &str, cells: Vec<String>) {
    let cells: String = cells.iter().map(|cell| format!(" {cell:>21}")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name:<NAME_WIDTH$}{cells}");
}

fn list<'v>(file: &'v Value, member: &str) -> Result<&'v Vec<Value>, String> {
    file[member].as_array().ok_or_else(|| format!("the report has no list {member}"))
}

fn text_of<'v>(figure: &'v Value, member: &str) -> Result<&'v str, String> {
    figure[member].as_str().ok_or_else(|| format!("a figure has no text {member}: {figure}"))
}

fn number_of(figure: &Value, member: &str) -> Result<f64, String> {
    figure[member].as_f64().ok_or_else(|| format!("a figure has no number {member}: {figure}"))
}
