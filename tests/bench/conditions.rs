//! The conditions of a run, without which its figures cannot be compared with those of another.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_devstack::postgres;
use serde_json::{Value, json};

/// A program that a run measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'p> {
    /// Name in tables: `ours`, or `against`.
    pub(crate) label: &'static str,
    /// Path of the executable.
    pub(crate) path: &'p str,
}

/// Reads the conditions at the start of a run. `size` is `full` or `quick`.
pub(crate) fn read(size: &str, programs: &[Program<'_>]) -> Value {
    let search: OsString = std::env::var_os("PATH").unwrap_or_default();
    let folder = postgres::Options::found_in(search).program_directory().expect("find Postgres");
    let programs: Vec<Value> = programs
        .iter()
        .map(|program| {
            let version = first_line(Path::new(program.path), &["--version"]);
            json!({ "label": program.label, "path": program.path, "version": version })
        })
        .collect();
    json!({
        "commit": commit(),
        "date": DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true),
        "size": size,
        "processor": value_in("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": value_in("/proc/meminfo", "MemTotal"),
        "load_average": load_average(),
        "nats": first_line(Path::new("nats-server"), &["--version"]),
        "postgres": first_line(&folder.join("postgres"), &["--version"]),
        "programs": programs,
    })
}

/// Returns the load averages of 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Returns the commit of the source, with `-dirty` if files differ from it.
fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let describe = ["-C", folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    first_line(Path::new("git"), &describe)
}

/// Returns the first line that a command prints; `unknown` if it fails.
fn first_line(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let succeeded = output.ok().filter(|output| output.status.success());
    let line = succeeded.and_then(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    });
    line.unwrap_or_else(|| "unknown".to_owned())
}

/// Returns the value of a line "name: value" of a file; `unknown` if there is none.
fn value_in(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}
