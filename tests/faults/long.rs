//! Fault injection for a given time; `ops/faults` runs this program.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a run prints its progress")]

mod check;
mod database;
mod disk;
mod generator;
mod lanes;
mod load;
mod merkle;
mod nats;
mod observations;
mod plan;
mod process;
mod queries;
mod report;
mod rollbacks;
mod run;
mod service;
mod shared;
mod stack;
mod streams;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plan::{LONG, Stint};
use report::Report;

/// Number of stints that `--plan-only` prints.
const PRINTED_STINTS: u64 = 6;

/// Kills of a process, and departures from a consumer group, in the long stories of streams.
const STREAM_KILLS: u64 = 20;
/// Stops of the service with a backlog in the long story, and the messages of the backlog.
const STOPS: u64 = 5;
const BACKLOG: u64 = 32_000;
/// Duration of the long outage of Kafka's brokers.
const BROKER_OUTAGE: Duration = Duration::from_secs(30);

/// Usage, in errors.
const USAGE: &str = "[--minutes N] [--seed S] [--stint N] [--plan-only] | --streams [--seed S]";

/// Command-line options.
struct Options {
    seed: u64,
    /// Time after which no further stint starts.
    time: Duration,
    /// The only stint to run.
    stint: Option<u64>,
    plan_only: bool,
    /// Run the stories of streams instead of stints.
    streams: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let nanoseconds =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_nanos());
        let seed = ledger_tests::Random::seeded(nanoseconds.unwrap_or_default() as u64).below(1_000_000);
        let time = Duration::from_secs(60);
        let mut options = Self { seed, time, stint: None, plan_only: false, streams: false };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut number = || {
                let text = value.clone().or_else(|| arguments.next()).unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("{name} requires a whole number, not {text:?}"))
            };
            match name.as_str() {
                "--seed" => options.seed = number()?,
                "--minutes" => options.time = Duration::from_secs(60 * number()?),
                "--stint" => options.stint = Some(number()?),
                "--plan-only" => options.plan_only = true,
                "--streams" => options.streams = true,
                // cargo passes this to every bench.
                "--bench" => {}
                _ => return Err(format!("unknown option {name}; usage: {USAGE}")),
            }
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let seed = options.seed;
    println!("seed {seed}");
    if options.plan_only {
        // The reader, such as `head`, may have closed the pipe.
        let _ = std::io::stdout().write_all(plan(&options).as_bytes());
        return ExitCode::SUCCESS;
    }
    if options.streams {
        return tokio::select! {
            () = run_stories(seed) => ExitCode::SUCCESS,
            // Dropping the story stops everything that it started.
            _ = tokio::signal::ctrl_c() => {
                eprintln!("error: interrupted");
                ExitCode::FAILURE
            }
        };
    }
    let (report, began) = (Arc::new(Report::new()), SystemTime::now());
    let mut number = options.stint.unwrap_or(1);
    let result = loop {
        let stint = Stint::plan(seed, number, &LONG);
        let result = tokio::select! {
            result = run::run(&stint, began.into(), &report) => result,
            // Dropping the stint stops everything that it started.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        };
        let is_over = began.elapsed().is_ok_and(|time| time >= options.time);
        if result.is_err() || options.stint.is_some() || is_over {
            break result;
        }
        number += 1;
    };
    println!("\n{}", report.table());
    match result {
        Ok(()) => {
            println!("seed {seed}: all checks passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: seed {seed}, {error}\nrepeat with: ops/faults --seed {seed} --stint {number}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the stories of streams. Panics at the first violation.
async fn run_stories(seed: u64) {
    streams::consumer_is_killed(seed, STREAM_KILLS).await;
    streams::producer_is_killed(seed, STREAM_KILLS).await;
    streams::group_rebalances(seed, STREAM_KILLS).await;
    streams::service_stops_with_a_backlog(STOPS, BACKLOG).await;
    streams::broker_is_down(BROKER_OUTAGE).await;
    streams::clients_follow().await;
    println!("seed {seed}: all stories of streams passed");
}

/// Returns the plan as text.
fn plan(options: &Options) -> String {
    let numbers = options.stint.map_or(1..=PRINTED_STINTS, |stint| stint..=stint);
    let mut text = String::new();
    for stint in numbers.map(|number| Stint::plan(options.seed, number, &LONG)) {
        text += &format!(
            "stint {}: {}, duplicate window of {} s\n",
            stint.number, stint.topology, stint.duplicate_window_seconds
        );
        for (round, faults) in stint.rounds.iter().enumerate() {
            text += &format!("  round {}\n", round + 1);
            faults.iter().for_each(|scheduled| text += &format!("    {scheduled}\n"));
        }
    }
    text
}
