//! The program `release-ledger`, for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    release_ledger::run()
}
