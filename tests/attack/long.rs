//! Attacks in full sizes, with figures; `ops/attack` runs this program.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a run prints what it found")]

mod answers;
mod attacks;
mod bodies;
mod connections;
mod crowd;
mod flood;
mod followers;
mod history;
mod questions;
mod target;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use attacks::{ATTACKS, AttackResult};
use target::{Connections, Scale};
use watch::{MAX_ACKNOWLEDGED, MAX_LIVEZ, MAX_MEMORY_MIB, Watched};

/// Sizes at which the attacks succeeded once, or larger ones.
const FULL: Scale = Scale {
    changes: 1_000_000,
    environments: (100, 10_000),
    requests: (20_000, 200),
    freezes: 10_000,
    readers: 20,
    observed: 20_000,
    services: 100_000,
    large_bodies: 10,
    rate_period: Duration::from_secs(10),
    connections: Connections {
        unread: 40,
        dripping: 60,
        drip_timeout: Duration::from_secs(75),
        idle: 1_100,
        followers: 1_000,
        crowd: (10_000, 500),
    },
    flooded: 1_000,
    crowded_events: 500,
    asserts_figures: true,
};
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
        println!("   others  {}", result.others());
        if result.outcome.is_err() || !is_within_limits(&result) {
            println!("   FAILED");
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_within_limits(result: &AttackResult) -> bool {
    let is_within = |watched: &Watched| {
        watched.memory_mib <= MAX_MEMORY_MIB
            && watched.livez_p99 <= MAX_LIVEZ
            && watched.slowest_acknowledged <= MAX_ACKNOWLEDGED
            && watched.acknowledged > 0
            && watched.refused == 0
    };
    result.watched.as_ref().is_none_or(is_within)
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
