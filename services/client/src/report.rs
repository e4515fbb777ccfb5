//! Reports of commands: lines of text and tables, in the format that the flags ask for.
//!
//! Invariants: on a terminal, tables fit its width, with ages for times and short digests. In a pipe they are complete,
//! so that a script never depends on the terminal. A report for a program is its first table. What is longer than the
//! terminal goes through the pager.

use std::fmt;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use ledger_domain::escape_unprintable;

use super::clock::now;
use super::environment::no_colour;
use super::output::{print_notice, shown_file, shown_json, terminal_width};
use super::pager::Pager;
use super::table::{Layout, Table, shorten_digests, wrap};
use super::yaml;

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table with ages and short digests, as wide as the terminal
    Table,
    /// A table with every column, complete times and digests
    Wide,
    /// The service's response
    Json,
    /// The service's response as YAML
    Yaml,
    /// Comma-separated values: every column of the table
    Csv,
    /// One JSON object per row of the table
    Ndjson,
    /// The names of the rows, one per line
    Name,
}

/// Flags of commands that print tables.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct OutputArgs {
    /// Format of the output [default: a table that fits the terminal, complete in a pipe]
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// Print the service's response as JSON; the same as --output json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print tables and CSV without the line of column names
    #[arg(long)]
    no_headers: bool,
    /// Do not page long output on a terminal; the same as NO_PAGER=1. The pager is PAGER, or less
    #[arg(long)]
    no_pager: bool,
}

impl OutputArgs {
    /// Returns the flags of a command that has `--json` only, and prints a line.
    pub(super) fn json_or_text(json: bool) -> Self {
        Self { json, no_pager: true, ..Self::default() }
    }

    /// Returns true if the output is the service's response.
    pub(super) fn is_json(self) -> bool {
        self.json || self.format == Some(Format::Json)
    }

    /// Returns true if the output is the service's response as YAML.
    pub(super) const fn is_yaml(self) -> bool {
        matches!(self.format, Some(Format::Yaml))
    }

    /// Returns stdout, through the pager if it is a terminal.
    pub(super) fn pager(self) -> Pager {
        Pager::new(!self.no_pager)
    }

    /// Returns true if programs read the rows of the table.
    pub(super) const fn is_rows(self) -> bool {
        matches!(self.format, Some(Format::Csv | Format::Ndjson))
    }

    /// Returns true if people read the table.
    pub(super) const fn is_text(self) -> bool {
        !self.json && matches!(self.format, None | Some(Format::Table | Format::Wide))
    }

    /// Returns the flags without the line of column names, as for the further pages of a table.
    pub(super) const fn without_headers(self) -> Self {
        Self { no_headers: true, ..self }
    }

    /// Returns the layout of tables for people.
    fn layout(self) -> Layout {
        let width = terminal_width();
        let is_compact = self.format == Some(Format::Table) || (self.format.is_none() && width.is_some());
        let is_wide = self.format == Some(Format::Wide);
        Layout {
            width: width.filter(|_| !is_wide),
            compact: is_compact.then(now),
            is_wide,
            has_headers: !self.no_headers,
            has_colour: width.is_some() && !no_colour(),
        }
    }

    /// Prints a report, or the JSON that it was made from.
    ///
    /// # Errors
    /// Stdout cannot be written, the report has no table and the format needs one, or the JSON is none and the format is
    /// YAML.
    pub(super) fn print(
        self,
        json: &[u8],
        report: impl FnOnce() -> anyhow::Result<Report>,
    ) -> anyhow::Result<()> {
        self.print_to(&mut self.pager(), json, report)
    }

    /// Prints a report, or the JSON that it was made from, as a part of the output.
    ///
    /// # Errors
    /// Those of [`OutputArgs::print`].
    pub(super) fn print_to(
        self,
        pager: &mut Pager,
        json: &[u8],
        report: impl FnOnce() -> anyhow::Result<Report>,
    ) -> anyhow::Result<()> {
        if self.is_json() {
            return Ok(pager.write(shown_json(json).as_bytes())?);
        }
        if self.is_yaml() {
            let yaml = yaml::from_json(json).context("the service's response is not JSON")?;
            return Ok(pager.write(yaml.as_bytes())?);
        }
        let report = report()?;
        let rows = match self.format {
            Some(Format::Csv) => shown_file(&report.table()?.csv(!self.no_headers)?).into_owned(),
            Some(Format::Ndjson) => shown_json(report.table()?.ndjson().as_bytes()).into_bytes(),
            Some(Format::Name) => shown_file(report.table()?.names().as_bytes()).into_owned(),
            None | Some(Format::Table | Format::Wide | Format::Json | Format::Yaml) => {
                return Ok(pager.write(report.text(self.layout()).as_bytes())?);
            }
        };
        // What a program does not read among the rows, such as that there may be more, must not get lost.
        report.text_lines().for_each(print_notice);
        if !rows.is_empty() {
            pager.write(&rows)?;
        }
        Ok(())
    }
}

/// Lines and tables that a command prints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Report(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Text whose lines may be wrapped, and whose digests may be shortened.
    Text(String),
    /// Text that stays as written, such as a policy.
    Verbatim(String),
    Table(Table),
}

impl Report {
    /// Adds text of one line or several.
    pub(super) fn with_line(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Adds a line, if there is one.
    pub(super) fn with_line_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.with_line(text),
            None => self,
        }
    }

    /// Adds the parts of another report.
    pub(super) fn with_report(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Adds text that stays as written, such as JSON.
    pub(super) fn with_verbatim(mut self, text: String) -> Self {
        self.0.push(Part::Verbatim(text));
        self
    }

    /// Adds a table. The first one is what programs get.
    pub(super) fn with_table(mut self, table: Table) -> Self {
        self.0.push(Part::Table(table));
        self
    }

    fn table(&self) -> anyhow::Result<&Table> {
        let table = self.0.iter().find_map(|part| match part {
            Part::Table(table) => Some(table),
            Part::Text(_) | Part::Verbatim(_) => None,
        });
        match table {
            Some(table) => Ok(table),
            None => bail!("this command prints no table: it has --output table, wide, json and yaml only"),
        }
    }

    /// Returns the lines of text between the tables.
    fn text_lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|part| match part {
            Part::Text(text) => text.lines(),
            Part::Verbatim(_) | Part::Table(_) => "".lines(),
        })
    }

    /// Returns the text in a layout, with unprintable characters escaped, and the columns that a terminal is too
    /// narrow for.
    pub(super) fn text(&self, layout: Layout) -> String {
        let text = self.parts_text(layout);
        match self.left_out(layout) {
            Some(line) => format!("{text}\n{}", lines(&line, layout)),
            None => text,
        }
    }

    /// Returns the line that says which columns are left out, if any are.
    fn left_out(&self, layout: Layout) -> Option<String> {
        let mut names: Vec<&str> = Vec::new();
        for part in &self.0 {
            if let Part::Table(table) = part {
                names.extend(table.left_out(layout));
            }
        }
        names.dedup();
        let is_said = layout.has_headers && !names.is_empty();
        is_said.then(|| format!("not shown: {}; -o wide shows all columns", names.join(", ")))
    }

    fn parts_text(&self, layout: Layout) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => lines(text, layout),
            Part::Verbatim(text) => escape_unprintable(text).into_owned(),
            Part::Table(table) => table.text(layout),
        });
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// Returns text in a layout: with short digests and wrapped lines on a terminal.
fn lines(text: &str, layout: Layout) -> String {
    let text = escape_unprintable(text);
    let text = if layout.compact.is_some() { shorten_digests(&text) } else { text.into_owned() };
    let Some(width) = layout.width else { return text };
    text.lines().flat_map(|line| wrap(line, width)).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Layout::PLAIN))
    }
}

impl From<String> for Report {
    fn from(text: String) -> Self {
        Self::default().with_verbatim(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use unicode_width::UnicodeWidthStr as _;

    use super::*;
    use crate::table::column;

    impl Report {
        /// Checks that the report fits into a terminal of 80 columns, and that no word is broken there.
        pub(crate) fn check_fits(&self) {
            let now = "2026-08-05T12:00:00Z".parse().expect("a time");
            let layout = |width| Layout { width, compact: Some(now), ..Layout::PLAIN };
            let complete = self.text(layout(None));
            let words: BTreeSet<&str> = complete.split_whitespace().collect();
            let shown = self.parts_text(layout(Some(80)));
            for line in shown.lines() {
                assert!(line.width() <= 80, "{} columns: {line}", line.width());
            }
            for word in shown.split_whitespace() {
                assert!(words.contains(word), "the word {word} is broken:\n{shown}");
            }
        }
    }

    #[test]
    fn a_report_is_its_lines_and_tables_and_a_program_gets_the_first_table() {
        let table = Table::new([column("service", 0)]).with_rows([["api".into()]]);
        let empty = Table::new([column("other", 0)]).if_empty("no others");
        let report = Report::default().with_line("dev\u{1b}").with_table(table.clone()).with_table(empty);
        assert_eq!(report.to_string(), "dev\\u{1b}\nservice\napi\nno others");
        assert_eq!(report.table().expect("a table"), &table);
        let more = report.with_line("there may be more\nof it");
        assert_eq!(more.text_lines().collect::<Vec<_>>(), ["dev\u{1b}", "there may be more", "of it"]);
    }

    #[test]
    fn a_terminal_that_is_too_narrow_says_which_columns_are_left_out() {
        let table = Table::new([column("service", 0), column("reason", 1)])
            .with_rows([["search-api".into(), "it-fails-everywhere".into()]]);
        let report = Report::default().with_table(table);
        let terminal = Layout { width: Some(28), ..Layout::PLAIN };
        let expected = "service\nsearch-api\nnot shown: reason; -o wide\nshows all columns";
        assert_eq!(report.text(terminal), expected);
        assert!(!report.text(Layout { has_headers: false, ..terminal }).contains("not shown"));
    }

    #[test]
    fn a_report_without_a_table_is_no_csv() {
        let error = Report::from("text".to_owned()).table().expect_err("no table").to_string();
        assert!(error.contains("table, wide, json and yaml"), "{error}");
    }
}
