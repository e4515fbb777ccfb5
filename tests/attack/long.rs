//! Attacks in full sizes, with figures; `ops/attack` runs this program.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a run prints what it found")]

mod attacks;
mod connections;
mod crowd;
mod flood;
mod history;
mod questions;
mod target;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use attacks::ATTACKS;
use target::{Connections, Scale};

/// Sizes at which the attacks succeeded once.
const FULL: Scale = Scale {
    changes: 1_000_000,
    environments: (100, 2_000),
    requests: (20_000, 200),
    freezes: 10_000,
    readers: 20,
    observed: 20_000,
    connections: Connections {
        unread: 40,
        dripping: 60,
        patience: Duration::from_secs(75),
        idle: 1_100,
        followers: 300,
        crowd: (10_000, 500),
    },
    flooded: 1_000,
    crowded_events: 500,
    asserts_figures: true,
};
/// Maximum resident memory of the service, in MiB.
const MAX_MEMORY_MIB: u64 = 400;
/// Maximum time in which 99 of 100 probes of `/livez` are answered.
const MAX_LIVEZ: Duration = Duration::from_millis(100);
/// Maximum time in which an event of another client is acknowledged.
const MAX_ACKNOWLEDGED: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let (scale, only) = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for attack in ATTACKS.iter().filter(|attack| only.as_ref().is_none_or(|only| attack.name == only)) {
        let result = attack.run(&scale).await;
        println!("── {}", attack.name);
        println!("   before  {}", attack.before);
        println!("   now     {}", result.outcome.as_deref().unwrap_or_else(|reason| reason));
        println!("   others  {}", result.watched);
        let watched = &result.watched;
        let within_limits = watched.memory_mib <= MAX_MEMORY_MIB
            && watched.livez_p99 <= MAX_LIVEZ
            && watched.slowest_acknowledged <= MAX_ACKNOWLEDGED;
        if result.outcome.is_err() || !within_limits {
            println!("   FAILED");
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Parses the options: the sizes, and the only attack to run.
fn parse(arguments: impl Iterator<Item = String>) -> Result<(Scale, Option<String>), String> {
    let mut scale = FULL;
    let mut only = None;
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => scale = Scale::SMALL,
            "--only" => only = Some(arguments.next().unwrap_or_default()),
            // cargo passes this to every bench.
            "--bench" => {}
            _ => return Err(format!("unknown option {argument}; usage: [--quick] [--only ATTACK]")),
        }
    }
    match &only {
        Some(name) if ATTACKS.iter().all(|attack| attack.name != name) => {
            let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
            Err(format!("--only: unknown attack {name:?}; the attacks are {}", names.join(", ")))
        }
        _ => Ok((scale, only)),
    }
}
