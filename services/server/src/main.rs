//! The program `release-ledger`.

use std::process::ExitCode;

fn main() -> ExitCode {
    release_ledger::run()
}
