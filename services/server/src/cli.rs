//! Command line of the program.

mod help;
#[cfg(feature = "server")]
mod service;
#[cfg(not(feature = "server"))]
mod without_service;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::Runtime;

use ledger_client as client;
#[cfg(feature = "server")]
use service::{SchemaVersion, ServiceCommand};
#[cfg(not(feature = "server"))]
use without_service::{SchemaVersion, ServiceCommand};

/// Records which release runs where
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Service(ServiceCommand),
    Emit(Box<client::Emit>),
    Run(Box<client::Run>),
    #[command(subcommand)]
    Check(Box<client::Check>),
    Switch(Box<client::Switch>),
    Remove(Box<client::Remove>),
    Correct(Box<client::Correct>),
    #[command(subcommand)]
    Spool(client::Spool),
    /// Record releases that predate the ledger
    #[command(subcommand)]
    Import(client::Import),
    State(Box<client::State>),
    Diff(Box<client::Diff>),
    Overview(Box<client::Overview>),
    Services(client::Services),
    Find(Box<client::Find>),
    Frequency(Box<client::Frequency>),
    History(Box<client::History>),
    Entry(client::Entry),
    #[command(visible_alias = "who")]
    Why(Box<client::Why>),
    Audit(Box<client::Audit>),
    #[command(subcommand)]
    Events(client::Events),
    Explain(client::Explain),
    Position(client::ShowPosition),
    Points(client::Points),
    Point(client::ShowPoint),
    Mark(Box<client::MarkPoint>),
    Unmark(Box<client::UnmarkPoint>),
    Freeze(Box<client::Freeze>),
    Unfreeze(Box<client::Unfreeze>),
    Approve(Box<client::Approve>),
    Reject(Box<client::Reject>),
    Revoke(Box<client::Revoke>),
    Reinstate(Box<client::Reinstate>),
    Retire(Box<client::Retire>),
    #[command(subcommand)]
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
    Context(client::Context),
    Login(Box<client::Login>),
    Logout(client::Logout),
    #[command(name = "whoami")]
    WhoAmI(client::WhoAmI),
    #[command(subcommand)]
    Token(client::Token),
    #[command(subcommand)]
    Grant(client::Grant),
    #[command(subcommand)]
    Tenant(client::Tenant),
    #[command(subcommand)]
    Access(client::Access),
    #[command(subcommand)]
    Quarantine(client::Quarantine),
    #[command(subcommand)]
    Subscription(client::Subscription),
}

/// Exit status of `run` and `check run` for a failure other than that of their command.
const RUN_FAILED: u8 = 125;

/// Runs the program. On failure, prints one line to stderr and returns a non-zero status.
#[must_use]
pub fn run() -> ExitCode {
    run_with(SchemaVersion::CURRENT)
}

/// Runs the program with another schema version of the projections, such as that of the next release.
#[must_use]
pub fn run_with(schema_version: SchemaVersion) -> ExitCode {
    let command = help::complete(ignore_empty_variables(Arguments::command()), help::width());
    let parsed = command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return usage_error(&explain_token(error)),
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(error.into()), |_| ExitCode::FAILURE),
    };
    let status = runtime.block_on(execute(arguments.command, schema_version));
    // Do not wait for blocking tasks, which a slow disk or resolver may hold up.
    runtime.shutdown_background();
    status
}

/// Ignores empty environment variables: CI systems set undefined variables to an empty string. Empty flags stay errors.
fn ignore_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| match argument.get_env() {
        Some(name) if is_empty(name) => argument.env(Resettable::Reset),
        _ => argument,
    });
    command.mut_subcommands(ignore_empty_variables)
}

async fn execute(command: Command, schema_version: SchemaVersion) -> ExitCode {
    let result = match command {
        Command::Service(command) => command.run(schema_version).await,
        Command::Emit(emit) => emit.run().await,
        Command::Run(run) => return run_exit_code(run.run().await),
        Command::Check(check) if check.is_run() => return run_exit_code(check.run().await),
        Command::Check(check) => check.run().await.map(drop),
        Command::Switch(switch) => switch.run().await,
        Command::Remove(remove) => remove.run().await,
        Command::Correct(correct) => correct.run().await,
        Command::Spool(spool) => spool.run().await,
        Command::Import(import) => import.run().await,
        Command::State(state) => state.run().await,
        Command::Diff(diff) => diff.run().await,
        Command::Overview(overview) => overview.run().await,
        Command::Services(services) => services.run().await,
        Command::Find(find) => find.run().await,
        Command::Frequency(frequency) => frequency.run().await,
        Command::History(history) => return history_exit_code(history.run().await),
        Command::Entry(entry) => entry.run().await,
        Command::Why(why) => why.run().await,
        Command::Audit(audit) => audit.run().await,
        Command::Events(events) => events.run(),
        Command::Explain(explain) => explain.run(),
        Command::Position(position) => position.run().await,
        Command::Points(points) => points.run().await,
        Command::Point(point) => point.run().await,
        Command::Mark(mark) => mark.run().await,
        Command::Unmark(unmark) => unmark.run().await,
        Command::Freeze(freeze) => freeze.run().await,
        Command::Unfreeze(unfreeze) => unfreeze.run().await,
        Command::Approve(approve) => approve.run().await,
        Command::Reject(reject) => reject.run().await,
        Command::Revoke(revoke) => revoke.run().await,
        Command::Reinstate(reinstate) => reinstate.run().await,
        Command::Retire(retire) => retire.run().await,
        Command::Policy(policy) => policy.run().await,
        Command::Horizon(horizon) => horizon.run().await,
        Command::Targets(targets) => targets.run().await,
        Command::Drift(drift) => drift.run().await,
        Command::Manifest(manifest) => manifest.run().await,
        Command::Gate(gate) => return exit_code(gate.run().await, gate_exit_code),
        Command::Rollback(rollback) => rollback.run().await,
        Command::Env(environment) => environment.run().await,
        Command::Backtest(backtest) => backtest.run().await,
        Command::Demo(demo) => return exit_code(demo.run().await, demo_exit_code),
        Command::Context(context) => context.run().await,
        Command::Login(login) => login.run().await,
        Command::Logout(logout) => logout.run().await,
        Command::WhoAmI(whoami) => whoami.run().await,
        Command::Token(token) => token.run().await,
        Command::Grant(grant) => grant.run().await,
        Command::Tenant(tenant) => tenant.run().await,
        Command::Access(access) => access.run().await,
        Command::Quarantine(quarantine) => quarantine.run().await,
        Command::Subscription(subscription) => subscription.run().await,
    };
    exit_code(result, failure_exit_code)
}

/// Names the ways to give a token, if the error is `--token` where no argument has this name. Clap names the file only.
fn explain_token(mut error: clap::Error) -> clap::Error {
    let is_token = |value: &ContextValue| matches!(value, ContextValue::String(name) if name == "--token");
    if error.kind() == ErrorKind::UnknownArgument && error.get(ContextKind::InvalidArg).is_some_and(is_token)
    {
        let tip = "other users of the machine see the arguments of a command; give the token in a file by \
                   --token-file or RELEASE_LEDGER_TOKEN_FILE, or in RELEASE_LEDGER_TOKEN";
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Prints the help or the error of the arguments. An error in those of `run` and `check run` exits with [`RUN_FAILED`].
fn usage_error(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let shown = client::printable(&text);
    // A failure to print cannot be reported anywhere.
    let _ = if shown == text { error.print() } else { std::io::stderr().lock().write_all(shown.as_bytes()) };
    let code = if is_wrapping() && error.use_stderr() {
        RUN_FAILED
    } else {
        u8::try_from(error.exit_code()).unwrap_or(2)
    };
    ExitCode::from(code)
}

/// Returns true if the arguments begin as those of a command that passes the exit status of another one through.
fn is_wrapping() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(command) if command == "run" => true,
        Some(command) if command == "check" => arguments.next().is_some_and(|command| command == "run"),
        _ => false,
    }
}

/// Exit 1 means that the gate denies the deploy; every other failure exits 2.
fn gate_exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::GateDenied>() { ExitCode::FAILURE } else { ExitCode::from(2) }
}

/// Exit 3 means that the ledger is not empty; every other failure exits as [`failure_exit_code`] says.
fn demo_exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::NotEmpty>() { ExitCode::from(3) } else { failure_exit_code(error) }
}

/// Exit 2 means that an argument is invalid, whether this program or the service found it, or that this build does not
/// have the command; exit 3, that a question with `--exit-code` found something; every other failure exits 1.
fn failure_exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<client::Found>() {
        return ExitCode::from(3);
    }
    if client::is_invalid_argument(error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Exit 130 means that Ctrl-C ended `--follow`; every failure exits as [`failure_exit_code`] says.
fn history_exit_code(run: anyhow::Result<ExitCode>) -> ExitCode {
    run.unwrap_or_else(|error| exit_code(Err(error), failure_exit_code))
}

/// Passes the status of the wrapped command through; any other failure exits with [`RUN_FAILED`].
fn run_exit_code(run: anyhow::Result<ExitCode>) -> ExitCode {
    match run {
        Ok(status) => status,
        Err(error) => exit_code(Err(error), |_| ExitCode::from(RUN_FAILED)),
    }
}

fn exit_code(result: anyhow::Result<()>, status: impl FnOnce(&anyhow::Error) -> ExitCode) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The answer is printed: there is no failure to report.
        Err(error) if error.is::<client::Found>() => status(&error),
        Err(error) => {
            // A closed stderr leaves nowhere to report the error.
            let _ = writeln!(std::io::stderr().lock(), "error: {}", client::printable(&format!("{error:#}")));
            status(&error)
        }
    }
}
