//! `release-ledger history --follow`: entries as the ledger records them, a line each.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use ledger_api_types::EntryBody;
use ledger_domain::escape_line;
use reqwest::Url;
use tokio::signal::ctrl_c;
use tokio::time::interval;

use super::{EventBody, row};
use crate::connection::Client;
use crate::output::{is_stdout_closed, print_json, print_text};
use crate::query::read;
use crate::stream::{Message, MessageStream};
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

/// Prints the entries after a position, and each further one, until Ctrl-C or until stdout is closed.
pub(super) async fn follow(client: &Client, url: Url, after: u64, json: bool) -> anyhow::Result<ExitCode> {
    let mut stream = MessageStream::new(client, url, Some(after));
    let mut interrupted = pin!(ctrl_c());
    let mut output_check = interval(OUTPUT_CHECK_INTERVAL);
    if !json {
        print_text(&line(&HEADER.map(str::to_owned)))?;
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
    let mut cells: Vec<String> = row(&entry).iter().take(HEADER.len()).map(|cell| cell.shown(None)).collect();
    if let Some(target) = cells.get_mut(5).filter(|target| *target == DEFAULT_TARGET) {
        target.clear();
    }
    Ok(print_text(&line(&cells))?)
}

/// Returns a line of the table, with unprintable characters and line feeds escaped.
fn line(cells: &[String]) -> String {
    let widths = WIDTHS.into_iter().chain([0]);
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", escape_line(cell)));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_columns_of_its_header_and_is_one_line() {
        let cells =
            ["7", "2026-08-01T12:00:00Z", "deploy.succeeded", "production", "web", "", "v1\nx", "ada", ""];
        let (header, line) = (line(&HEADER.map(str::to_owned)), line(&cells.map(str::to_owned)));

        for (name, cell) in HEADER.into_iter().zip(["7", "2026", "deploy", "production", "web"]) {
            assert_eq!(header.find(name), line.find(cell), "{name}\n{header}\n{line}");
        }
        assert_eq!(header.find("summary"), line.find(r"v1\nx"), "{line}");
        assert!(line.ends_with("ada") && !line.contains('\n'), "{line}");
    }
}
