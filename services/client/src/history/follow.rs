//! `release-ledger history --follow`: entries as the ledger records them, a line each.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_api_types::EntryBody;
use ledger_domain::escape_line;
use reqwest::Url;
use tokio::signal::ctrl_c;
use tokio::time::interval;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{EventBody, row};
use crate::clock::now;
use crate::connection::Client;
use crate::output::{is_stdout_closed, print_json, print_text, terminal_width};
use crate::query::read;
use crate::stream::{Message, MessageStream};
use crate::table::{Cell, age};
use crate::targets::DEFAULT_TARGET;

/// Exit status after Ctrl-C, as a shell reports it: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// Interval at which the command looks whether its output is still read.
const OUTPUT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Columns of a line.
const HEADER: [&str; 9] =
    ["position", "time", "type", "environment", "service", "target", "summary", "by", "note"];

/// Smallest widths of the columns except for the last one: the entries to come are not known.
const WIDTHS: [usize; 8] = [8, 20, 18, 12, 12, 7, 16, 12];

/// Smallest widths of the columns on a terminal, where times are short. Targets other than the usual one need more.
const TERMINAL_WIDTHS: [usize; 8] = [8, 8, 16, 11, 8, 0, 8, 6];

/// Last character of a line that is cut.
const CUT: char = '…';

/// Prints the entries after a position, and each further one, until Ctrl-C or until stdout is closed.
pub(super) async fn follow(client: &Client, url: Url, after: u64, json: bool) -> anyhow::Result<ExitCode> {
    let mut stream = MessageStream::new(client, url, Some(after));
    let mut interrupted = pin!(ctrl_c());
    let mut output_check = interval(OUTPUT_CHECK_INTERVAL);
    if !json {
        print_text(&header(terminal_width()))?;
    }
    loop {
        // Kept over the checks of the output: a connection may take longer than their interval.
        let mut next = pin!(stream.next());
        let message = loop {
            tokio::select! {
                message = &mut next => break message?,
                result = &mut interrupted => {
                    result?;
                    return Ok(ExitCode::from(INTERRUPTED));
                }
                _ = output_check.tick() => {}
            }
            if is_stdout_closed() {
                return Ok(ExitCode::SUCCESS);
            }
        };
        print_entry(&message, json)?;
        if is_stdout_closed() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn print_entry(message: &Message, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(message.data.as_bytes())?);
    }
    let entry: EntryBody<EventBody> = read(message.data.as_bytes())?;
    // A terminal may change its width between two entries.
    let width = terminal_width();
    let now = width.map(|_| now());
    let shown = |cell: &Cell| match (cell, now) {
        (Cell::Time(time), Some(now)) => short_time(*time, now),
        _ => cell.shown(now),
    };
    let mut cells: Vec<String> = row(&entry).iter().take(HEADER.len()).map(shown).collect();
    if let Some(target) = cells.get_mut(5).filter(|target| *target == DEFAULT_TARGET) {
        target.clear();
    }
    Ok(print_text(&line(&cells, width))?)
}

/// Returns the names of the columns. A terminal has no room for a name of targets, most of which are the usual one.
fn header(width: Option<usize>) -> String {
    let name = |name: &str| if width.is_some() && name == "target" { String::new() } else { name.to_owned() };
    line(&HEADER.map(name), width)
}

/// Returns the time of day, in UTC, of a time within 12 hours, and the age of another one.
fn short_time(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (now - time).abs() < TimeDelta::hours(12) {
        true => time.format("%H:%M:%S").to_string(),
        false => age(time, now),
    }
}

/// Returns a line of the table, with unprintable characters and line feeds escaped, cut to the width of a terminal.
fn line(cells: &[String], width: Option<usize>) -> String {
    let widths = if width.is_some() { TERMINAL_WIDTHS } else { WIDTHS };
    let widths = widths.into_iter().chain([0]);
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", escape_line(cell)));
    let line = padded.collect::<Vec<_>>().join("  ").trim_end().to_owned();
    match width {
        Some(width) => cut(line, width),
        None => line,
    }
}

/// Cuts a line that is wider than a terminal.
fn cut(line: String, width: usize) -> String {
    if line.width() <= width {
        return line;
    }
    let mut shown = String::with_capacity(width);
    let mut used = 0;
    for character in line.chars() {
        used += character.width().unwrap_or_default();
        if used >= width {
            break;
        }
        shown.push(character);
    }
    shown.push(CUT);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_columns_of_its_header_and_is_one_line() {
        let cells =
            ["7", "2026-08-01T12:00:00Z", "deploy.succeeded", "production", "web", "", "v1\nx", "ada", ""];
        let (header, line) = (header(None), line(&cells.map(str::to_owned), None));

        for (name, cell) in HEADER.into_iter().zip(["7", "2026", "deploy", "production", "web"]) {
            assert_eq!(header.find(name), line.find(cell), "{name}\n{header}\n{line}");
        }
        assert_eq!(header.find("summary"), line.find(r"v1\nx"), "{line}");
        assert!(line.ends_with("ada") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn a_line_on_a_terminal_fits_its_width() {
        let cells =
            ["7", "12:00:00", "deploy.succeeded", "production", "web", "", "v1", "ada", "a long note"];
        let line = |width| line(&cells.map(str::to_owned), Some(width));

        assert_eq!(
            line(80),
            "7         12:00:00  deploy.succeeded  production   web         v1        ada   …"
        );
        assert_eq!(line(40).width(), 40, "{}", line(40));
        assert!(line(200).ends_with("a long note") && header(Some(80)).width() <= 80);
    }

    #[test]
    fn a_time_on_a_terminal_is_that_of_the_day_or_an_age() {
        let now = "2026-08-03T12:00:00Z".parse().expect("a time");
        let short = |text: &str| short_time(text.parse().expect("a time"), now);
        assert_eq!(short("2026-08-03T11:59:58.5Z"), "11:59:58");
        assert_eq!(short("2026-07-30T12:00:00Z"), "4d ago");
    }
}
