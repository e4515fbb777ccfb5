//! The long run of faults: `ops/faults` runs this.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a run tells what it does")]

mod author;
mod check;
mod database;
mod disk;
mod fold;
mod load;
mod merkle;
mod model;
mod nats;
mod plan;
mod process;
mod questions;
mod replica;
mod report;
mod rollbacks;
mod run;
mod stack;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plan::{LONG, Stint};
use report::Report;

/// Stints that are shown of a plan.
const SHOWN: u64 = 6;

/// What is asked for.
struct Wanted {
    seed: u64,
    time: Duration,
    /// Only this stint of the run.
    stint: Option<u64>,
    plan_only: bool,
}

impl Wanted {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let nanoseconds =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_nanos());
        let seed = ledger_tests::Random::seeded(nanoseconds.unwrap_or_default() as u64).below(1_000_000);
        let mut wanted = Self { seed, time: Duration::from_secs(60), stint: None, plan_only: false };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut number = || {
                let text = value.clone().or_else(|| arguments.next()).unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("{name} wants a whole number, not {text:?}"))
            };
            match name.as_str() {
                "--seed" => wanted.seed = number()?,
                "--minutes" => wanted.time = Duration::from_secs(60 * number()?),
                "--stint" => wanted.stint = Some(number()?),
                "--plan-only" => wanted.plan_only = true,
                // What cargo says to every bench.
                "--bench" => {}
                _ => {
                    return Err(format!(
                        "{name} is not known: [--minutes N] [--seed S] [--stint N] [--plan-only]"
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let wanted = match Wanted::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let seed = wanted.seed;
    println!("seed {seed}");
    if wanted.plan_only {
        // Whoever reads may have seen enough.
        let _ = std::io::stdout().write_all(plan(&wanted).as_bytes());
        return ExitCode::SUCCESS;
    }
    let (report, began) = (Arc::new(Report::new()), SystemTime::now());
    let mut number = wanted.stint.unwrap_or(1);
    let held = loop {
        let stint = Stint::plan(seed, number, &LONG);
        let held = tokio::select! {
            held = run::run(&stint, began.into(), &report) => held,
            // Dropped, the stint ends all that it started.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        };
        let is_over = began.elapsed().is_ok_and(|time| time >= wanted.time);
        if held.is_err() || wanted.stint.is_some() || is_over {
            break held;
        }
        number += 1;
    };
    println!("\n{}", report.table());
    match held {
        Ok(()) => {
            println!("seed {seed}: all holds");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!(
                "error: seed {seed}, {broken}\nthe same again: ops/faults --seed {seed} --stint {number}"
            );
            ExitCode::FAILURE
        }
    }
}

/// The plan, as text.
fn plan(wanted: &Wanted) -> String {
    let numbers = wanted.stint.map_or(1..=SHOWN, |stint| stint..=stint);
    let mut text = String::new();
    for stint in numbers.map(|number| Stint::plan(wanted.seed, number, &LONG)) {
        text += &format!("stint {}: {}, {} s of memory\n", stint.number, stint.stand, stint.memory);
        for (round, faults) in stint.rounds.iter().enumerate() {
            text += &format!("  round {}\n", round + 1);
            faults.iter().for_each(|timed| text += &format!("    {timed}\n"));
        }
    }
    text
}
