//! Tables: columns with priorities, typed cells, and their layout for terminals, pipes and programs.
//!
//! Invariants: a table for people escapes unprintable characters and line feeds in cells. A layout never breaks a word.
//! A layout of limited width omits columns, the least important first, rather than squeezing text. CSV, NDJSON and names contain every column and every character.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use ledger_domain::escape_line;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr as _;

/// Width, in columns of the terminal, below which no column of text is narrowed while another one can be omitted.
const COMFORTABLE_WIDTH: usize = 24;

/// Spaces between two columns.
const GAP: usize = 2;

/// Digits of a shortened digest, and the shortest run of hexadecimal digits that counts as one.
const SHORT_DIGEST: usize = 12;
const MIN_DIGEST: usize = 32;

/// Column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    name: &'static str,
    /// 0: always shown; of the others, the highest is omitted first.
    priority: u8,
    is_wide: bool,
    /// True: may be as narrow as its longest word before another column is omitted.
    is_narrow: bool,
    usual: Option<&'static str>,
}

/// Returns a column. Priority 0 is always shown; of the others, the highest is omitted first.
pub(super) const fn column(name: &'static str, priority: u8) -> Column {
    Column { name, priority, is_wide: false, is_narrow: false, usual: None }
}

/// Returns a column that only `--output wide`, `csv` and `ndjson` show.
pub(super) const fn wide_column(name: &'static str) -> Column {
    Column { name, priority: u8::MAX, is_wide: true, is_narrow: false, usual: None }
}

impl Column {
    /// Omits the column in text if every row has this value, or none.
    pub(super) const fn unless_all(mut self, usual: &'static str) -> Self {
        self.usual = Some(usual);
        self
    }

    /// Lets the column become as narrow as its longest word before another one is omitted.
    pub(super) const fn narrow(mut self) -> Self {
        self.is_narrow = true;
        self
    }
}

/// Meaning of a cell for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
}

/// Content of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Number(u64),
    /// A time; compact layouts show its age.
    Time(DateTime<Utc>),
    /// Text that may contain digests, such as an artifact; compact layouts shorten them.
    Digest(String),
    /// A word with a colour.
    Status(Tone, String),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl Cell {
    /// Returns the content, complete and unescaped.
    fn full(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) | Self::Digest(text) | Self::Status(_, text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Empty => Value::Null,
            Self::Number(number) => Value::from(*number),
            _ => Value::from(self.full()),
        }
    }

    /// Returns the text of a layout, on one line.
    pub(super) fn shown(&self, compact: Option<DateTime<Utc>>) -> String {
        match (self, compact) {
            (Self::Time(time), Some(now)) => age(*time, now),
            (Self::Digest(text), Some(_)) => escape_line(&shorten_digests(text)).to_string(),
            _ => escape_line(&self.full()).to_string(),
        }
    }

    /// Returns true if the text may continue on the next line.
    fn is_prose(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Digest(_))
    }
}

/// Returns how long ago a time was, in its largest unit: `3h ago`; `in 3h` for a time to come.
pub(super) fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let since = now - time;
    let seconds = since.abs().num_seconds().unsigned_abs();
    let amount = match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        172_800..63_072_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    };
    if since < TimeDelta::zero() && seconds > 0 { format!("in {amount}") } else { format!("{amount} ago") }
}

/// Shortens each digest in a text to its first 12 digits.
pub(super) fn shorten_digests(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let kept = if digits >= MIN_DIGEST { SHORT_DIGEST } else { digits };
        let (run, after) = rest.split_at(digits);
        short.push_str(run.get(..kept).unwrap_or(run));
        let others = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        let (other, next) = after.split_at(others);
        short.push_str(other);
        rest = next;
    }
    short
}

/// The form in which people see a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Width of the terminal in columns; `None`: unlimited.
    pub(super) width: Option<usize>,
    /// The current time, to show ages for times and short digests; `None`: both are complete.
    pub(super) compact: Option<DateTime<Utc>>,
    /// True: shows the columns of `--output wide` too.
    pub(super) is_wide: bool,
    pub(super) has_headers: bool,
    pub(super) has_colour: bool,
}

impl Layout {
    /// The layout of a pipe: complete times and digests, in lines of any length.
    pub(super) const PLAIN: Self =
        Self { width: None, compact: None, is_wide: false, has_headers: true, has_colour: false };
}

/// Rows of typed cells under declared columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Column with the names of the rows.
    name: usize,
    /// Text in place of a table without rows.
    if_empty: String,
}

impl Table {
    /// Returns a table without rows. Its first column names the rows.
    pub(super) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new(), name: 0, if_empty: String::new() }
    }

    /// Sets the column that names the rows.
    pub(super) fn named_by(mut self, name: &str) -> Self {
        self.name = self.columns.iter().position(|column| column.name == name).unwrap_or_default();
        self
    }

    /// Sets the text in place of a table without rows.
    pub(super) fn if_empty(mut self, text: impl Into<String>) -> Self {
        self.if_empty = text.into();
        self
    }

    /// Adds rows, each with a cell for every column.
    pub(super) fn with_rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [Cell; N]>) -> Self {
        self.rows.extend(rows.into_iter().map(Vec::from));
        self
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &Cell> {
        self.rows.iter().filter_map(move |row| row.get(column))
    }

    /// Returns the indexes of the columns that a layout may show.
    fn candidates(&self, layout: Layout) -> Vec<usize> {
        let is_shown = |index: &usize| {
            let column = self.columns[*index];
            let usual = column.usual.unwrap_or_default();
            let is_unusual = |cell: &Cell| {
                let text = cell.full();
                !text.is_empty() && text != usual
            };
            (layout.is_wide || !column.is_wide) && self.cells(*index).any(is_unusual)
        };
        (0..self.columns.len()).filter(is_shown).collect()
    }

    /// Returns the columns that a layout shows.
    fn fitted(&self, layout: Layout) -> Vec<Shown<'_>> {
        let mut columns: Vec<Shown<'_>> = self
            .candidates(layout)
            .into_iter()
            .map(|index| Shown::new(self.columns[index], self.cells(index), layout))
            .collect();
        if let Some(width) = layout.width {
            fit(&mut columns, width);
        }
        columns
    }

    /// Returns the names of the columns that are left out because a layout is too narrow.
    pub(super) fn left_out(&self, layout: Layout) -> Vec<&'static str> {
        if layout.width.is_none() {
            return Vec::new();
        }
        let shown = self.fitted(layout);
        let names = self.candidates(layout).into_iter().map(|index| self.columns[index].name);
        names.filter(|name| shown.iter().all(|column| column.column.name != *name)).collect()
    }

    /// Returns the text of the table, without a line feed at its end.
    pub(super) fn text(&self, layout: Layout) -> String {
        if self.rows.is_empty() {
            return self.if_empty.clone();
        }
        let columns = self.fitted(layout);
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        if layout.has_headers {
            let header = columns.iter().map(|column| (column.column.name.to_owned(), column.width, BOLD));
            lines.push(line(header, layout.has_colour));
        }
        for row in 0..self.rows.len() {
            lines.extend(row_lines(&columns, row, layout.has_colour));
        }
        lines.join("\n")
    }

    /// Returns the values of the column that names the rows, one per line.
    pub(super) fn names(&self) -> String {
        self.cells(self.name).map(|cell| escape_line(&cell.full()).to_string()).collect::<Vec<_>>().join("\n")
    }

    fn members(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| column.name.replace([' ', '-'], "_"))
    }

    /// Returns one JSON object per row and line, with a member for every column; null for an empty cell.
    pub(super) fn ndjson(&self) -> String {
        let object = |row: &Vec<Cell>| {
            let members = self.members().zip(row.iter().map(Cell::json));
            Value::Object(members.collect::<Map<String, Value>>()).to_string()
        };
        self.rows.iter().map(object).collect::<Vec<_>>().join("\n")
    }

    /// Returns the rows as comma-separated values.
    ///
    /// # Errors
    /// The writer fails; it writes to memory.
    pub(super) fn csv(&self, has_headers: bool) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        if has_headers {
            writer.write_record(self.members())?;
        }
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::full))?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

/// Column of a layout, with its texts and its width.
struct Shown<'t> {
    column: Column,
    cells: Vec<&'t Cell>,
    texts: Vec<String>,
    width: usize,
    /// Width of the longest word, and of all that must not be wrapped.
    min_width: usize,
}

impl<'t> Shown<'t> {
    fn new(column: Column, cells: impl Iterator<Item = &'t Cell>, layout: Layout) -> Self {
        let cells: Vec<&Cell> = cells.collect();
        let texts: Vec<String> = cells.iter().map(|cell| cell.shown(layout.compact)).collect();
        let header = if layout.has_headers { column.name.width() } else { 0 };
        let width = texts.iter().map(|text| text.width()).max().unwrap_or_default().max(header);
        let unbroken = |(cell, text): (&&Cell, &String)| match cell.is_prose() {
            true => text.split(' ').map(|word| word.width()).max().unwrap_or_default(),
            false => text.width(),
        };
        let min_width = cells.iter().zip(&texts).map(unbroken).max().unwrap_or_default().max(header);
        Self { column, cells, texts, width, min_width }
    }

    fn comfortable_width(&self) -> usize {
        if self.column.is_narrow {
            return self.min_width;
        }
        self.width.min(COMFORTABLE_WIDTH).max(self.min_width)
    }
}

/// Returns the width of a line with columns of these widths.
fn total(widths: impl Iterator<Item = usize>) -> usize {
    let (count, sum) = widths.fold((0_usize, 0_usize), |(count, sum), width| (count + 1, sum + width));
    sum + GAP * count.saturating_sub(1)
}

/// Omits columns, then narrows the others, until a line has at most this width. Columns of priority 0 stay, and no
/// column becomes narrower than its longest word: lines may remain longer.
fn fit(columns: &mut Vec<Shown<'_>>, width: usize) {
    while total(columns.iter().map(Shown::comfortable_width)) > width {
        let last = columns.iter().enumerate().max_by_key(|(index, column)| (column.column.priority, *index));
        match last {
            Some((index, column)) if column.column.priority > 0 => {
                columns.remove(index);
            }
            _ => break,
        }
    }
    while total(columns.iter().map(|column| column.width)) > width {
        let widest = columns.iter_mut().filter(|column| column.width > column.min_width);
        match widest.max_by_key(|column| column.width) {
            Some(column) => column.width -= 1,
            None => break,
        }
    }
}

const BOLD: &str = "1";

/// Returns the code of a cell's colour; empty: none.
fn style(cell: &Cell) -> &'static str {
    match cell {
        Cell::Status(Tone::Good, _) => "32",
        Cell::Status(Tone::Warning, _) => "33",
        Cell::Status(Tone::Bad, _) => "31",
        _ => "",
    }
}

/// Returns the lines of a row: several if a cell is wrapped.
fn row_lines(columns: &[Shown<'_>], row: usize, has_colour: bool) -> Vec<String> {
    let wrapped: Vec<Vec<String>> = columns
        .iter()
        .map(|column| wrap(column.texts.get(row).map(String::as_str).unwrap_or_default(), column.width))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |index: usize, column: &Shown<'_>, at: usize| {
        let text = wrapped.get(index).and_then(|lines| lines.get(at)).cloned().unwrap_or_default();
        (text, column.width, column.cells.get(row).map_or("", |cell| style(cell)))
    };
    (0..height)
        .map(|at| line(columns.iter().enumerate().map(|(index, column)| cell(index, column, at)), has_colour))
        .collect()
}

/// Returns a line of cells, each with its width and its style, without spaces at the end.
fn line(cells: impl Iterator<Item = (String, usize, &'static str)>, has_colour: bool) -> String {
    let mut line = String::new();
    let mut padding = 0;
    for (text, width, style) in cells {
        if !text.is_empty() {
            line.push_str(&" ".repeat(padding));
            padding = 0;
            if has_colour && !style.is_empty() {
                line.push_str(&format!("\u{1b}[{style}m{text}\u{1b}[0m"));
            } else {
                line.push_str(&text);
            }
        }
        padding += width.saturating_sub(text.width()) + GAP;
    }
    line
}

/// Breaks a text between words into lines of a width, in columns. A longer word has a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Renders a table, with unprintable characters and line feeds in cells escaped. Omits the columns that are empty in
/// every row.
pub fn render<const N: usize>(header: [&'static str; N], rows: &[[String; N]]) -> String {
    let cells = rows.iter().map(|row| row.each_ref().map(|text| Cell::Text(text.clone())));
    Table::new(header.map(|name| column(name, 0))).with_rows(cells).text(Layout::PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-08-01T12:00:00Z".parse().expect("a time")
    }

    fn terminal(width: usize) -> Layout {
        Layout { width: Some(width), compact: Some(now()), ..Layout::PLAIN }
    }

    #[test]
    fn an_empty_column_is_omitted() {
        let rows = [["api", "", "v1"], ["frontend", "", "v22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "slot", "version"], &rows),
            "service   version\napi       v1\nfrontend  v22"
        );
    }

    #[test]
    fn a_cell_is_one_line_and_cannot_control_the_terminal() {
        let rows = [["api", "a\n\u{1b}[2J\u{202e}b"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "reason"], &rows),
            "service  reason\napi      a\\n\\u{1b}[2J\\u{202e}b"
        );
    }

    #[test]
    fn a_narrow_terminal_omits_the_least_important_columns_and_wraps_between_words() {
        let table = Table::new([column("service", 0), column("reason", 0), column("by", 2)]).with_rows([[
            "api".into(),
            "the check e2e failed in production".into(),
            "ada.lovelace@example.".into(),
        ]]);
        assert_eq!(
            table.text(terminal(36)),
            "service  reason\napi      the check e2e failed in\n         production"
        );
        assert_eq!(table.text(Layout::PLAIN).lines().count(), 2);
        assert_eq!(table.left_out(terminal(36)), ["by"]);
        assert!(table.left_out(Layout::PLAIN).is_empty());
    }

    #[test]
    fn a_narrow_column_is_wrapped_before_another_one_is_omitted() {
        let columns = [column("service", 0), column("summary", 0).narrow(), column("by", 1)];
        let table = Table::new(columns).with_rows([["api".into(), "v1 (blue) by hand".into(), "ada".into()]]);
        assert_eq!(
            table.text(terminal(24)),
            "service  summary     by\napi      v1 (blue)   ada\n         by hand"
        );
    }

    #[test]
    fn a_column_with_the_usual_value_in_every_row_is_omitted_but_kept_for_programs() {
        let columns = [column("service", 0), column("target", 1).unless_all("default")];
        let table = Table::new(columns).with_rows([["api".into(), "default".into()]]);
        assert_eq!(table.text(Layout::PLAIN), "service\napi");
        assert_eq!(table.ndjson(), r#"{"service":"api","target":"default"}"#);
        assert_eq!(table.csv(true).expect("CSV"), b"service,target\napi,default\n");
        assert_eq!(table.names(), "api");
    }

    #[test]
    fn times_become_ages_and_digests_short_on_a_terminal_only() {
        let digest = format!("pkg:oci/web@sha256:{}", "ab".repeat(32));
        let time: DateTime<Utc> = "2026-08-01T09:00:00Z".parse().expect("a time");
        let table = Table::new([column("artifact", 0), column("since", 0)])
            .with_rows([[Cell::Digest(digest.clone()), time.into()]]);
        let header = format!("{:33}since", "artifact");
        let expected = format!("{header}\npkg:oci/web@sha256:abababababab  3h ago");
        assert_eq!(table.text(terminal(80)), expected);
        assert!(table.text(Layout::PLAIN).contains(&format!("{digest}  2026-08-01T09:00:00Z")));
    }

    #[test]
    fn an_age_has_its_largest_unit() {
        let ago = |seconds| age(now() - TimeDelta::seconds(seconds), now());
        let ages = [0, 59, 60, 3_600, 172_799, 172_800, 63_072_000].map(ago);
        assert_eq!(ages, ["0s ago", "59s ago", "1m ago", "1h ago", "47h ago", "2d ago", "2y ago"]);
        assert_eq!(ago(-7_200), "in 2h");
    }

    #[test]
    fn only_words_of_a_status_have_a_colour() {
        let table = Table::new([column("passes", 0)]).with_rows([[Cell::Status(Tone::Bad, "no".into())]]);
        let layout = Layout { has_colour: true, ..Layout::PLAIN };
        assert_eq!(table.text(layout), "\u{1b}[1mpasses\u{1b}[0m\n\u{1b}[31mno\u{1b}[0m");
    }

    #[test]
    fn numbers_are_numbers_of_json_and_wide_columns_are_for_programs() {
        let table = Table::new([column("position", 0), wide_column("recorded at")])
            .with_rows([[7_u64.into(), Cell::Empty], [8_u64.into(), "x".into()]]);
        assert_eq!(table.text(Layout { has_headers: false, ..Layout::PLAIN }), "7\n8");
        let lines = "{\"position\":7,\"recorded_at\":null}\n{\"position\":8,\"recorded_at\":\"x\"}";
        assert_eq!(table.ndjson(), lines);
    }
}
