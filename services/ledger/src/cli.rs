//! The program's command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ledger_views::Form;

use crate::{archive, client, restore, serve, up, views};

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
    Views(views::Command),
    Verify(Box<views::Verify>),
}

/// Runs the program: one line on stderr, and a status that is not 0, when it fails.
pub async fn run() -> ExitCode {
    run_with(Form::CURRENT).await
}

/// Runs the program as it would be if its views had another form, such as that of the next version.
pub async fn run_with(form: Form) -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up(up) => up.run(form).await,
        Command::Serve(serve) => serve.run(form).await,
        Command::Archive(archive) => archive.run().await,
        Command::Restore(restore) => restore.run(form).await,
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
        Command::Demo(demo) => demo.run().await,
        Command::Views(command) => command.run(form).await,
        Command::Verify(verify) => verify.run(form).await,
    };
    told(done, |_| ExitCode::FAILURE)
}

/// Who asks the gate must be able to tell its no from no answer at all.
fn gate_failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::GateRefused>() { ExitCode::FAILURE } else { ExitCode::from(2) }
}

/// Who runs a deploy must be able to tell its failure from ours.
fn ended(run: anyhow::Result<ExitCode>) -> ExitCode {
    match run {
        Ok(status) => status,
        Err(error) => told(Err(error), |_| ExitCode::from(125)),
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
