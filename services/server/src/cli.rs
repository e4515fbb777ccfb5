//! The program's command line.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use ledger_projections::SchemaVersion;
use tokio::runtime::Runtime;

use crate::{archive, projections, restore, serve, up};
use ledger_client as client;

/// Remembers what was released where
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Serve(Box<serve::Serve>),
    Archive(Box<archive::Archive>),
    Restore(Box<restore::Restore>),
    Emit(Box<client::Emit>),
    Run(Box<client::Run>),
    #[command(subcommand)]
    Spool(client::Spool),
    /// Record what was released before there was a ledger
    #[command(subcommand)]
    Import(client::Import),
    State(client::State),
    Diff(client::Diff),
    History(client::History),
    Position(client::ShowPosition),
    Points(client::Points),
    Point(client::ShowPoint),
    Mark(Box<client::MarkPoint>),
    Unmark(Box<client::UnmarkPoint>),
    Policy(client::Policy),
    Horizon(client::Horizon),
    Targets(client::Targets),
    Drift(client::Drift),
    Manifest(client::Manifest),
    Gate(Box<client::Gate>),
    #[command(subcommand)]
    Rollback(Box<client::Rollback>),
    #[command(subcommand)]
    Env(Box<client::Environment>),
    Backtest(client::Backtest),
    Demo(client::Demo),
    #[command(subcommand)]
    Projections(projections::Command),
    Verify(Box<projections::Verify>),
}

/// The status of `run` when something goes wrong that is not its command's doing.
const WRONG: u8 = 125;

/// Runs the program: one line on stderr, and a status that is not 0, when it fails.
#[must_use]
pub fn run() -> ExitCode {
    run_with(SchemaVersion::CURRENT)
}

/// Runs the program as it would be if its projections had another form, such as that of the next version.
#[must_use]
pub fn run_with(schema_version: SchemaVersion) -> ExitCode {
    let command = without_empty_variables(Arguments::command());
    let parsed = command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error),
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return told(Err(error.into()), |_| ExitCode::FAILURE),
    };
    let status = runtime.block_on(carry_out(arguments.command, schema_version));
    // Whatever a disk or a resolver still holds up, nobody waits for it any more.
    runtime.shutdown_background();
    status
}

/// A CI gives a variable that it does not know as an empty one: that says nothing. An empty flag is a mistake.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| match argument.get_env() {
        Some(name) if is_empty(name) => argument.env(Resettable::Reset),
        _ => argument,
    });
    command.mut_subcommands(without_empty_variables)
}

async fn carry_out(command: Command, schema_version: SchemaVersion) -> ExitCode {
    let done = match command {
        Command::Up(up) => up.run(schema_version).await,
        Command::Serve(serve) => serve.run(schema_version).await,
        Command::Archive(archive) => archive.run().await,
        Command::Restore(restore) => restore.run(schema_version).await,
        Command::Emit(emit) => emit.run().await,
        Command::Run(run) => return ended(run.run().await),
        Command::Spool(spool) => spool.run().await,
        Command::Import(import) => import.run().await,
        Command::State(state) => state.run().await,
        Command::Diff(diff) => diff.run().await,
        Command::History(history) => history.run().await,
        Command::Position(position) => position.run().await,
        Command::Points(points) => points.run().await,
        Command::Point(point) => point.run().await,
        Command::Mark(mark) => mark.run().await,
        Command::Unmark(unmark) => unmark.run().await,
        Command::Policy(policy) => policy.run().await,
        Command::Horizon(horizon) => horizon.run().await,
        Command::Targets(targets) => targets.run().await,
        Command::Drift(drift) => drift.run().await,
        Command::Manifest(manifest) => manifest.run().await,
        Command::Gate(gate) => return told(gate.run().await, gate_failed),
        Command::Rollback(rollback) => rollback.run().await,
        Command::Env(environment) => environment.run().await,
        Command::Backtest(backtest) => backtest.run().await,
        Command::Demo(demo) => return told(demo.run().await, demo_failed),
        Command::Projections(command) => command.run(schema_version).await,
        Command::Verify(verify) => verify.run(schema_version).await,
    };
    told(done, |_| ExitCode::FAILURE)
}

/// Help, or what is wrong with the arguments; of a deploy, as whatever goes wrong and is not its own command's doing.
fn misunderstood(error: &clap::Error) -> ExitCode {
    // Nothing is left to be done where it cannot be printed.
    let _ = error.print();
    let is_run = std::env::args_os().nth(1).is_some_and(|command| command == "run");
    let code =
        if is_run && error.use_stderr() { WRONG } else { u8::try_from(error.exit_code()).unwrap_or(2) };
    ExitCode::from(code)
}

/// Who asks the gate must be able to tell its no from no answer at all.
fn gate_failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::GateRefused>() { ExitCode::FAILURE } else { ExitCode::from(2) }
}

/// Exit 3 means that the ledger is not empty; every other failure exits 1.
fn demo_failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::NotEmpty>() { ExitCode::from(3) } else { ExitCode::FAILURE }
}

/// Who runs a deploy must be able to tell its failure from ours.
fn ended(run: anyhow::Result<ExitCode>) -> ExitCode {
    match run {
        Ok(status) => status,
        Err(error) => told(Err(error), |_| ExitCode::from(WRONG)),
    }
}

fn told(done: anyhow::Result<()>, status: impl FnOnce(&anyhow::Error) -> ExitCode) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where stderr is closed.
            let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
            status(&error)
        }
    }
}
