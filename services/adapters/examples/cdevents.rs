//! Translates CDEvents: `cdevents read` and `cdevents write` read one JSON document a line from the standard input.
//!
//! `read` writes the native event of each CDEvent, or `{"error": …}`. `write` writes each native event as a CDEvent.

use std::io::{self, BufRead as _, Write as _};

use ledger_adapters::cdevents::{self, Settings};
use ledger_adapters::translation::{NativeEvent, Translation};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::Position;
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let mut output = io::stdout().lock();
    for (index, line) in io::stdin().lock().lines().enumerate() {
        let line = line?;
        let result = if mode == "write" { written(&line, index) } else { read(&line) };
        writeln!(output, "{}", result.unwrap_or_else(|error| json!({ "error": error })))?;
    }
    Ok(())
}

fn read(line: &str) -> Result<Value, String> {
    match cdevents::read(line.as_bytes(), &Settings::default()) {
        Ok(Translation::Events(events)) => {
            Ok(Value::Array(events.into_iter().map(|NativeEvent(event)| Value::Object(event)).collect()))
        }
        Ok(Translation::Ignored(reason)) => Ok(json!({ "ignored": reason })),
        Ok(Translation::Partial(part)) => Err(part.fault.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn written(line: &str, index: usize) -> Result<Value, String> {
    let event = Envelope::parse(line.as_bytes()).map_err(|error| error.to_string())?;
    let position = Position::new(index as u64 + 1);
    Ok(cdevents::write(&event, position))
}
